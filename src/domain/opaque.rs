//! Types that hold what belongs to an owner must not print it.

/// Gives each type a `Debug` that prints the type's name and nothing else, so that neither a log line nor a failed
/// assertion can show what an owner keeps.
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
