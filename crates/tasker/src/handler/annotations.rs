//! What an attempt notes about its task, kept until its end is recorded.

use std::sync::{Arc, Mutex, PoisonError};

use tasker_model::annotation::{ANNOTATIONS_MAX, Annotation, InvalidAnnotation};

/// The notes of one attempt. Clones are the same list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Annotations(Arc<Mutex<Vec<Annotation>>>);

impl Annotations {
    pub(super) fn add(&self, annotation: Annotation) -> Result<(), InvalidAnnotation> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() >= ANNOTATIONS_MAX {
            return Err(InvalidAnnotation::TooMany);
        }
        list.push(annotation);
        Ok(())
    }

    /// All that was noted.
    pub(crate) fn all(&self) -> Vec<Annotation> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
