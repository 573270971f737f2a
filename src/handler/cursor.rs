//! The cursor of `list`: the place after which the next page begins, with a MAC over the owner and
//! the filter for which it was made.

use crate::domain::Place;
use crate::seal::{Keyring, OwnerKey};
use crate::wire::Refusal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Returns the cursor of the page after `place`.
pub(super) fn cursor_after(
    keyring: &Keyring,
    owner: &OwnerKey,
    filter: &[u8],
    place: &Place,
) -> String {
    let place = place.as_str().as_bytes();
    let mac = keyring.cursor_mac(owner, filter, place);
    URL_SAFE_NO_PAD.encode([&mac, place].concat())
}

/// Returns the place after which the page of this cursor begins.
///
/// # Errors
/// `bad_request` if the cursor was not made for this owner and filter.
pub(super) fn start_after(
    keyring: &Keyring,
    owner: &OwnerKey,
    filter: &[u8],
    cursor: &str,
) -> Result<Place, Refusal> {
    let bad_cursor = || {
        Refusal::bad_field(
            "cursor",
            "not a cursor of this list: begin again without one",
        )
    };
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| bad_cursor())?;
    let (mac, place) = bytes.split_first_chunk().ok_or_else(bad_cursor)?;
    if *mac != keyring.cursor_mac(owner, filter, place) {
        return Err(bad_cursor());
    }

    let place = str::from_utf8(place).map_err(|_| bad_cursor())?;
    Place::parse(place).map_err(|_| bad_cursor())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::UserId;
    use base64::engine::general_purpose::STANDARD;

    const FILTER: &[u8] = b"text\0\0";

    /// The bytes are a cursor, and the place in one with the right MAC.
    #[test]
    fn fuzz_the_cursor() {
        let key = |byte: u8| STANDARD.encode([byte; 32]);
        let keyring = Keyring::from_base64(&key(1), &key(2)).expect("two keys");
        let owner = keyring.owner(&UserId::new("i", "s"));

        bolero::check!().for_each(|input: &[u8]| {
            let text = String::from_utf8_lossy(input);
            assert!(start_after(&keyring, &owner, FILTER, &text).is_err());

            let mac = keyring.cursor_mac(&owner, FILTER, input);
            let made = URL_SAFE_NO_PAD.encode([&mac, input].concat());
            if let Ok(place) = start_after(&keyring, &owner, FILTER, &made) {
                assert_eq!(cursor_after(&keyring, &owner, FILTER, &place), made);
                assert!(start_after(&keyring, &owner, b"codes\0\0", &made).is_err());
            }
        });
    }
}
