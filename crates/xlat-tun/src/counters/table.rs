//! The macros that make counters from a table: adding a counter is adding a line.

/// Makes from a table with one line for each counter
/// - the cells, a struct of counters;
/// - the values, a struct that can be summed and serialised;
/// - `snapshot`, which reads the values from the cells;
/// - `families`, the values as metrics.
///
/// A line is documentation, field, kind of [`Cell`](crate::counters::Cell),
/// [`Metric`](crate::counters::Metric) and labels. Lines with the same metric are one family. Each
/// metric needs a row in `docs/operations.md`; a test checks that.
#[macro_export]
macro_rules! counters {
    (
        $(#[$cells_meta:meta])* cells $Cells:ident;
        $(#[$values_meta:meta])* values $Values:ident;
        $($(#[$meta:meta])+ $field:ident: $Cell:ty => $metric:expr, $labels:literal;)+
    ) => {
        $(#[$cells_meta])*
        #[derive(Debug, Default)]
        pub struct $Cells {
            $(pub(crate) $field: $Cell,)+
        }

        $(#[$values_meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, ::serde::Serialize)]
        pub struct $Values {
            $($(#[$meta])+ pub $field: <$Cell as $crate::counters::Cell>::Value,)+
        }

        impl $Cells {
            /// The current values.
            pub fn snapshot(&self) -> $Values {
                $Values {
                    $($field: $crate::counters::Cell::value(&self.$field),)+
                }
            }
        }

        impl $Values {
            /// The values as metrics.
            pub fn families(&self) -> $crate::counters::Families {
                let mut families = $crate::counters::Families::default();
                $($crate::counters::Value::sample(&self.$field, &mut families, $metric, $labels);)+
                families
            }
        }

        impl ::std::ops::AddAssign for $Values {
            fn add_assign(&mut self, more: Self) {
                $(self.$field += more.$field;)+
            }
        }
    };
}

/// Makes an enum of names, which [`Each`](crate::counters::Each) counts one by one: a line is
/// documentation, variant and name. The head names the label in metrics, and says whether metrics
/// and JSON include zeros.
#[macro_export]
macro_rules! labels {
    (
        $(#[$enum_meta:meta])* $vis:vis enum $Enum:ident: $label:literal,
        zeros in metrics $samples:literal, in JSON $serialises:literal;
        $($(#[$meta:meta])+ $variant:ident = $name:literal,)+
    ) => {
        $(#[$enum_meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $Enum {
            $($(#[$meta])+ $variant,)+
        }

        impl $Enum {
            /// All names, in the order of their numbers.
            $vis const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in counters, metrics and logs.
            $vis const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        impl $crate::counters::Label for $Enum {
            const ALL: &'static [Self] = Self::ALL;
            const LABEL: &'static str = $label;
            const SAMPLES_ZEROS: bool = $samples;
            const SERIALISES_ZEROS: bool = $serialises;

            fn name(self) -> &'static str {
                self.name()
            }

            #[inline]
            fn number(self) -> usize {
                self as usize
            }
        }
    };
}
