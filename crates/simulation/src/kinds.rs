//! A macro for enums whose variants have names, such as the kinds of index.

/// Declares an enum with named variants, a list of all variants, `Display` and `FromStr`.
macro_rules! kinds {
    ($(#[$meta:meta])* $name:ident, $what:literal { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// All variants in declaration order.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// Returns the name that command lines and databases use.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::error::UnknownName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|kind| kind.name() == text).ok_or_else(|| {
                    $crate::error::UnknownName {
                        what: $what,
                        given: text.to_owned(),
                        known: Self::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", "),
                    }
                })
            }
        }
    };
}
pub(crate) use kinds;

#[cfg(test)]
mod tests {
    use crate::action::ActionKind;
    use crate::spatial::IndexKind;

    #[test]
    fn names_round_trip() {
        for kind in IndexKind::ALL {
            assert_eq!(kind.name().parse::<IndexKind>().as_ref(), Ok(kind));
        }
        for kind in ActionKind::ALL {
            assert_eq!(kind.to_string().parse::<ActionKind>().as_ref(), Ok(kind));
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = "r-tree".parse::<IndexKind>().unwrap_err().to_string();
        assert_eq!(error, "unknown index kind `r-tree` (known: kdtree, quadtree, hash)");
    }
}
