//! Which operations a load has, and how often each.

use crate::wire::Operation;
use std::fmt;
use std::str::FromStr;

/// The operations that a load can have, in the order of tables.
pub(super) const OPERATIONS: [Operation; 6] = [
    Operation::Get,
    Operation::List,
    Operation::Put,
    Operation::Delete,
    Operation::Changes,
    Operation::Version,
];

/// The mix that a load has if nothing else is said.
pub(super) const USUAL: &str = "get=60,list=20,put=15,delete=3,changes=2";

/// What is wrong with a mix that cannot be read.
const FORM: &str = "give one of get, list, put, delete, changes and version, or several with their weights, \
                    as in get=60,put=40";

/// Operations with their weights. At least one weight is above zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mix {
    weights: [u32; OPERATIONS.len()],
}

impl Mix {
    /// Returns the operations that have a weight, with it.
    pub fn parts(&self) -> impl Iterator<Item = (Operation, u32)> {
        let parts = std::iter::zip(OPERATIONS, self.weights);

        parts.filter(|(_, weight)| *weight > 0)
    }

    /// Returns the operation that a number falls on, each as often as its weight says.
    pub fn pick(&self, number: u64) -> Operation {
        let total: u64 = self.weights.iter().copied().map(u64::from).sum();
        let mut rest = number % total.max(1);
        for (operation, weight) in self.parts() {
            match rest.checked_sub(u64::from(weight)) {
                Some(more) => rest = more,
                None => return operation,
            }
        }

        Operation::Get
    }

    /// Returns the share of an operation, from 0 to 1.
    pub fn share(&self, operation: Operation) -> f64 {
        let total: f64 = self.weights.iter().copied().map(f64::from).sum();
        let part = self.parts().find(|(other, _)| *other == operation);

        part.map_or(0.0, |(_, weight)| f64::from(weight) / total)
    }
}

impl FromStr for Mix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut weights = [0; OPERATIONS.len()];
        for part in text.split(',') {
            let (name, weight) = match part.split_once('=') {
                Some((name, weight)) => (name, weight.parse().map_err(|_| FORM)?),
                None => (part, 1),
            };
            let place = OPERATIONS.iter().position(|one| one.name() == name.trim());
            weights[place.ok_or(FORM)?] = weight;
        }

        if weights == [0; OPERATIONS.len()] || weights.iter().any(|weight| *weight > 1_000_000) {
            return Err(FORM);
        }
        Ok(Self { weights })
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (operation, weight)) in self.parts().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{}={weight}", operation.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_comes_as_often_as_its_weight_says() {
        let mix: Mix = USUAL.parse().expect("a mix");
        let count = |operation| {
            (0..1_000)
                .filter(|number| mix.pick(*number) == operation)
                .count()
        };

        assert_eq!(OPERATIONS.map(count), [600, 200, 150, 30, 20, 0]);
        assert!((mix.share(Operation::Put) - 0.15).abs() < 1e-9);
        assert_eq!(mix.to_string(), USUAL);
    }

    #[test]
    fn one_operation_alone_is_a_mix() {
        let mix: Mix = "put".parse().expect("a mix");

        assert_eq!(mix.to_string(), "put=1");
        assert!((0..9).all(|number| mix.pick(number) == Operation::Put));
    }

    #[test]
    fn what_is_no_mix_is_refused() {
        for wrong in [
            "",
            "get=",
            "get=x",
            "history",
            "get=0",
            "get=-1",
            "get=60;put=40",
        ] {
            assert_eq!(wrong.parse::<Mix>(), Err(FORM), "{wrong}");
        }
    }
}
