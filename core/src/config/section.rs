//! One definition for a configuration section: struct, serde, defaults and the documentation of each key.

/// What is known of one configuration key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The section, e.g. `optim`.
    pub section: &'static str,
    /// The key inside the section, e.g. `lr`.
    pub name: &'static str,
    /// Its documentation: unit, default and source.
    pub doc: &'static str,
}

impl Key {
    /// `section.name`, as written on the command line and in messages.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }
}

/// Defines a section: a serde struct with a `Default`, and the list of its documented [`Key`]s.
macro_rules! section {
    (
        $(#[doc = $doc:expr])+
        $section:literal => $name:ident {
            $( $(#[doc = $field_doc:expr])+ $(#[serde($($serde:tt)+)])* $field:ident : $type:ty = $default:expr, )+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $( $(#[doc = $field_doc])+ $(#[serde($($serde)+)])* pub $field: $type, )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        impl $name {
            /// The keys of this section, in order, with their documentation.
            pub const KEYS: &'static [crate::config::Key] = &[
                $( crate::config::Key {
                    section: $section,
                    name: stringify!($field),
                    doc: concat!($($field_doc, "\n"),+),
                }, )+
            ];
        }
    };
}

pub(crate) use section;
