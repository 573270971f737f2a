//! A reader of Protocol Buffers: the fields of one message.
//!
//! It copies nothing, and reads no byte beyond the message, whatever lengths the message claims.

/// The most bytes of a number.
const NUMBER_BYTES_MAX: usize = 10;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldValue<'m> {
    Number(u64),
    Bytes(&'m [u8]),
    /// A value of 4 or 8 bytes, which is skipped.
    Fixed,
}

/// The message is cut off, or is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The fields of a message, in its order: number and value. Ends after the first that is malformed.
pub(super) struct MessageFields<'m> {
    rest: &'m [u8],
}

impl<'m> MessageFields<'m> {
    /// Reads a message.
    pub fn of(message: &'m [u8]) -> Self {
        Self { rest: message }
    }

    fn read(&mut self) -> Option<(u64, FieldValue<'m>)> {
        let key = self.number()?;
        let value = match key & 7 {
            0 => FieldValue::Number(self.number()?),
            1 => self.take(8).map(|_| FieldValue::Fixed)?,
            2 => {
                let length = self.number()?;
                FieldValue::Bytes(self.take(usize::try_from(length).ok()?)?)
            }
            5 => self.take(4).map(|_| FieldValue::Fixed)?,
            _ => return None,
        };

        Some((key >> 3, value))
    }

    fn take(&mut self, length: usize) -> Option<&'m [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;

        Some(taken)
    }

    /// Reads a number: seven bits in each byte, the lowest first. The high bit shows that there are
    /// more.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for at in 0..NUMBER_BYTES_MAX {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }

        None
    }
}

impl<'m> Iterator for MessageFields<'m> {
    type Item = Result<(u64, FieldValue<'m>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }

        let field = self.read();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or(Malformed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(message: &[u8]) -> Result<Vec<(u64, FieldValue<'_>)>, Malformed> {
        MessageFields::of(message).collect()
    }

    #[test]
    fn fields_of_each_type_are_read() {
        let message = [
            &[0x08, 0x96, 0x01][..],
            &[0x12, 3, b'a', b'b', b'c'],
            &[0x1d, 1, 2, 3, 4],
            &[0x21, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x2a, 0],
        ]
        .concat();

        assert_eq!(
            read(&message),
            Ok(vec![
                (1, FieldValue::Number(150)),
                (2, FieldValue::Bytes(b"abc")),
                (3, FieldValue::Fixed),
                (4, FieldValue::Fixed),
                (5, FieldValue::Bytes(b"")),
            ])
        );
        assert_eq!(read(b""), Ok(vec![]));
    }

    #[test]
    fn a_negative_number_has_ten_bytes() {
        let message = [&[0x28][..], &[0xff; 9], &[0x01]].concat();

        assert_eq!(read(&message), Ok(vec![(5, FieldValue::Number(u64::MAX))]));
    }

    #[test]
    fn what_is_cut_off_or_no_message_is_malformed() {
        for message in [
            &[0x08][..],
            &[0x08, 0x80],
            &[0x12, 3, b'a', b'b'],
            &[
                0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
            &[0x1d, 1, 2, 3],
            &[0x21, 1],
            &[0x0b],
            &[0x0c],
            &[0x0f, 1],
            &[0xff; 11],
        ] {
            assert_eq!(read(message), Err(Malformed), "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let fields = MessageFields::of(&bytes).count();

            prop_assert!(fields <= bytes.len());
        }
    }
}
