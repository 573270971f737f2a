//! A `Debug` that does not print an owner's data.

/// Implements `Debug` for each type so that it prints only the type's name. Neither a log line nor
/// a failed assertion can then show an owner's data.
macro_rules! opaque_debug {
    ($($name:ident),+ $(,)?) => {$(
        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )+};
}

pub(crate) use opaque_debug;
