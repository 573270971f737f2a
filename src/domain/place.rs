//! The place of an item in its owner's list.

use super::Invalid;
use serde::{Deserialize, Serialize};

/// The digits of a place, in the order of their bytes.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE: usize = DIGITS.len();
/// The digits of a number of 64 bits.
const NUMBER_DIGITS: usize = 11;
/// The digits of the position of an operation in its batch.
const POSITION_DIGITS: usize = 2;
/// The last digit of a place that was not moved. There is room before it and after it.
const MIDDLE: u8 = DIGITS[BASE / 2];

/// The place of an item: a short text. Items sorted by the bytes of their places are in the order
/// of the list.
///
/// A place is a fraction in base 62, so there is another place between any two, until it would be
/// longer than [`Place::BYTES_MAX`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Place(String);

impl Place {
    /// The maximum length, in bytes.
    pub const BYTES_MAX: usize = 64;

    /// Parses the text of a place.
    ///
    /// # Errors
    /// [`Invalid`] for `place`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let is_place = (1..=Self::BYTES_MAX).contains(&text.len())
            && text.bytes().all(|digit| DIGITS.contains(&digit))
            && !text.ends_with('0');

        if is_place {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new("place", "is not the place of an item"))
        }
    }

    /// Returns the place of an item that is created on top of that version of its owner, as the
    /// operation of that position in its batch. Items that are created later come later, because
    /// only one write is made on top of a version.
    pub fn of_creation(owner_version: u64, position: usize) -> Self {
        let mut digits = number(owner_version, NUMBER_DIGITS);
        digits.extend(number(position as u64, POSITION_DIGITS));
        digits.push(MIDDLE);

        Self(digits.into_iter().map(char::from).collect())
    }

    /// Returns a place between two others; `None` stands for the beginning and for the end. Returns
    /// `None` if there is no room: the place would be too long, or the two are not in order.
    pub fn between(before: Option<&Self>, after: Option<&Self>) -> Option<Self> {
        if let (Some(before), Some(after)) = (before, after)
            && before >= after
        {
            return None;
        }

        let mut lower = before.into_iter().flat_map(Self::values);
        let mut upper = after.map(Self::values);
        let mut place = String::new();

        while place.len() < Self::BYTES_MAX {
            let low = lower.next().unwrap_or(0);
            let high = match &mut upper {
                Some(upper) => upper.next().unwrap_or(0),
                None => BASE,
            };

            if high > low + 1 {
                place.push(char::from(DIGITS[usize::midpoint(low, high)]));
                return Some(Self(place));
            }
            place.push(char::from(DIGITS[low]));
            if high > low {
                // Whatever follows, the place is before the upper one.
                upper = None;
            }
        }

        None
    }

    /// Returns that many places in order between two others, as short as they can be; `None` if
    /// there is no room.
    pub fn spread(count: usize, before: Option<&Self>, after: Option<&Self>) -> Option<Vec<Self>> {
        if count == 0 {
            return Some(Vec::new());
        }

        let middle = Self::between(before, after)?;
        let mut places = Self::spread(count / 2, before, Some(&middle))?;
        let rest = Self::spread(count - count / 2 - 1, Some(&middle), after)?;
        places.push(middle);
        places.extend(rest);

        Some(places)
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn values(&self) -> impl Iterator<Item = usize> {
        self.0
            .bytes()
            .map(|digit| DIGITS.iter().position(|one| *one == digit).unwrap_or(0))
    }
}

/// Returns the number in that many digits.
fn number(mut number: u64, digits: usize) -> Vec<u8> {
    let mut text = vec![b'0'; digits];

    for digit in text.iter_mut().rev() {
        *digit = DIGITS[(number % BASE as u64) as usize];
        number /= BASE as u64;
    }

    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn items_that_are_created_later_come_later() {
        let places = [(0, 0), (0, 1), (0, 99), (1, 0), (62, 0), (u64::MAX, 3_843)]
            .map(|(version, position)| Place::of_creation(version, position));

        assert!(places.is_sorted());
        for place in places {
            assert_eq!(place.as_str().len(), 14);
            assert!(Place::parse(place.as_str()).is_ok());
        }
    }

    #[test]
    fn there_is_a_place_at_both_ends() {
        let place = Place::of_creation(7, 0);

        let first = Place::between(None, Some(&place)).expect("room");
        let last = Place::between(Some(&place), None).expect("room");

        assert!(first < place);
        assert!(place < last);
    }

    #[test]
    fn what_is_no_place_is_refused() {
        let long = "1".repeat(Place::BYTES_MAX + 1);

        for text in ["", "0", "a0", "-", "é", &long] {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn between_neighbours_room_ends_and_spreading_makes_new_room() {
        let before = Place::of_creation(1, 0);
        let mut after = Place::of_creation(2, 0);
        let mut count = 0;
        while let Some(place) = Place::between(Some(&before), Some(&after)) {
            after = place;
            count += 1;
        }

        assert!(count > 200, "only {count}");
        let end = Place::of_creation(3, 0);
        let places = Place::spread(100, Some(&before), Some(&end)).expect("room");
        assert_eq!(places.len(), 100);
        assert!(places.is_sorted());
        assert!(places.iter().all(|place| place.as_str().len() < 20));
    }

    #[test]
    fn places_out_of_order_have_nothing_between_them() {
        let place = Place::of_creation(1, 0);

        assert_eq!(Place::between(Some(&place), Some(&place)), None);
    }

    proptest! {
        #[test]
        fn a_place_between_two_others_is_between_them(
            one in "[0-9A-Za-z]{0,20}[1-9A-Za-z]", other in "[0-9A-Za-z]{0,20}[1-9A-Za-z]",
        ) {
            prop_assume!(one != other);
            let places = [&one, &other].map(|text| Place::parse(text).expect("a place"));
            let [low, high] = if one < other { [&places[0], &places[1]] } else { [&places[1], &places[0]] };

            let between = Place::between(Some(low), Some(high)).expect("room");

            prop_assert!(low < &between && &between < high, "{low:?} {between:?} {high:?}");
            prop_assert!(Place::parse(between.as_str()).is_ok());
        }
    }
}
