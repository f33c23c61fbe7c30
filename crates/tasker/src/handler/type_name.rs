//! Types as `build` compares them and shows them.

use std::any::TypeId;

/// A type: equal by what it is, shown by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TypeName {
    id: TypeId,
    pub(crate) name: &'static str,
}

impl TypeName {
    pub(crate) fn of<T: 'static>() -> TypeName {
        TypeName {
            id: TypeId::of::<T>(),
            name: std::any::type_name::<T>(),
        }
    }

    /// Whether a result of this type may be read as the other: plain JSON fits every type until
    /// it is read.
    pub(crate) fn fits(self, wanted: TypeName) -> bool {
        let json = TypeName::of::<serde_json::Value>();
        self == wanted || self == json || wanted == json
    }
}
