//! How far a handler says that it has come.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tasker_model::progress::StepProgress;

/// Where a handler says how far it has come. Clones speak of the same attempt.
#[derive(Clone, Default)]
pub(crate) struct Reporter {
    /// What nobody has taken yet; only the latest counts.
    latest: Arc<Mutex<Option<StepProgress>>>,
    tell: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reporter").field(&self.latest).finish()
    }
}

impl Reporter {
    /// `tell` is called when there is something to take, and not again before it was taken: a handler
    /// may report as often as it likes.
    pub(crate) fn new(tell: impl Fn() + Send + Sync + 'static) -> Reporter {
        Reporter {
            latest: Arc::default(),
            tell: Some(Arc::new(tell)),
        }
    }

    pub(crate) fn report(&self, progress: StepProgress) {
        let before = self.lock().replace(progress);
        if let (None, Some(tell)) = (before, &self.tell) {
            tell();
        }
    }

    pub(crate) fn take(&self) -> Option<StepProgress> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<StepProgress>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
