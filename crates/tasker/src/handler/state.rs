//! What a process shares with the steps of a task handler.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::type_name::TypeName;

/// One value of each type.
#[derive(Clone, Default)]
pub(crate) struct States(Vec<(TypeName, Arc<dyn Any + Send + Sync>)>);

impl States {
    /// Adds a value. Gives whether there was none of its type.
    pub(crate) fn insert<S: Send + Sync + 'static>(&mut self, state: S) -> bool {
        let new = self.get::<S>().is_none();
        self.0.push((TypeName::of::<S>(), Arc::new(state)));
        new
    }

    pub(crate) fn get<S: 'static>(&self) -> Option<&S> {
        self.0.iter().find_map(|(_, state)| state.downcast_ref())
    }

    pub(crate) fn has(&self, wanted: TypeName) -> bool {
        self.0.iter().any(|(given, _)| *given == wanted)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(given, _)| given.name)
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
