//! The export of Google Authenticator: an `otpauth-migration://` URI with a message in Protocol
//! Buffers. A large export has several, one in each QR code.

use super::new_item::NewItem;
use super::otp_fields::OtpFields;
use super::parsed::{Parsed, Part};
use super::protobuf::{FieldValue, Malformed, MessageFields};
use crate::domain::{ItemLimits, Otp};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

/// How such a URI begins.
const SCHEME: &str = "otpauth-migration:";

/// The most parts of an export. A part holds about ten entries.
const PARTS_MAX: u64 = 1_000;

/// Base64 with padding or without it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An entry of the message.
#[derive(Default)]
struct Parameters<'m> {
    secret: &'m [u8],
    name: &'m [u8],
    issuer: &'m [u8],
    algorithm: u64,
    digits: u64,
    r#type: u64,
    counter: u64,
}

/// Returns whether a text is such a URI.
pub(super) fn is_migration(text: &str) -> bool {
    let begin = text.as_bytes().get(..SCHEME.len());

    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(SCHEME.as_bytes()))
}

/// Adds the entries of a URI, which stands at that place.
///
/// # Errors
///
/// Fails if the URI cannot be read. The reason repeats nothing of it.
pub(super) fn parse(
    uri: &str,
    place: &str,
    limits: &ItemLimits,
    parsed: &mut Parsed,
) -> Result<(), String> {
    let message = decode(uri)?;
    let malformed =
        |_: Malformed| "the data of the otpauth-migration:// URI are damaged or cut off".to_owned();
    let fields: Vec<_> = MessageFields::of(&message)
        .collect::<Result<_, _>>()
        .map_err(malformed)?;

    let mut part = Part {
        place: place.to_owned(),
        batch: 0,
        size: 1,
        index: 0,
    };
    let mut count = 0;
    for (number, value) in fields {
        match (number, value) {
            (1, FieldValue::Bytes(entry)) => {
                count += 1;
                let otp = Parameters::parse(entry)
                    .map_err(malformed)
                    .and_then(|parameters| parameters.otp());
                let item = otp.and_then(|otp| NewItem::otp(otp, limits));
                parsed.push(format!("{place}, entry {count}"), item);
            }
            (3, FieldValue::Number(size)) => part.size = size,
            (4, FieldValue::Number(index)) => part.index = index,
            (5, FieldValue::Number(batch)) => part.batch = batch,
            _ => {}
        }
    }

    if part.size > PARTS_MAX || part.index >= part.size.max(1) {
        return Err("the otpauth-migration:// URI is a part that cannot be".to_owned());
    }
    parsed.parts.push(part);
    Ok(())
}

/// Returns the message in a URI.
fn decode(uri: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let (_, query) = uri.split_once('?').unwrap_or_default();
    let data = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("data="))
        .ok_or("the otpauth-migration:// URI has no data")?;
    // Where somebody decoded the URI as a form, a plus has become a space.
    let base64: Zeroizing<Vec<u8>> = Zeroizing::new(
        percent_decode_str(data)
            .map(|byte| match byte {
                b' ' | b'-' => b'+',
                b'_' => b'/',
                other => other,
            })
            .collect(),
    );

    BASE64
        .decode(&*base64)
        .map(Zeroizing::new)
        .map_err(|_| "the data of the otpauth-migration:// URI are not Base64".to_owned())
}

impl<'m> Parameters<'m> {
    fn parse(message: &'m [u8]) -> Result<Self, Malformed> {
        let mut parameters = Self::default();
        for field in MessageFields::of(message) {
            match field? {
                (1, FieldValue::Bytes(bytes)) => parameters.secret = bytes,
                (2, FieldValue::Bytes(bytes)) => parameters.name = bytes,
                (3, FieldValue::Bytes(bytes)) => parameters.issuer = bytes,
                (4, FieldValue::Number(number)) => parameters.algorithm = number,
                (5, FieldValue::Number(number)) => parameters.digits = number,
                (6, FieldValue::Number(number)) => parameters.r#type = number,
                (7, FieldValue::Number(number)) => parameters.counter = number,
                _ => {}
            }
        }

        Ok(parameters)
    }

    fn otp(&self) -> Result<Otp, String> {
        let text = |bytes: &'m [u8], what: &str| {
            std::str::from_utf8(bytes).map_err(|_| format!("the {what} is not UTF-8"))
        };
        let secret = Otp::encode_secret(self.secret);
        let fields = OtpFields {
            r#type: match self.r#type {
                0 | 2 => "totp",
                1 => "hotp",
                _ => return Err("the type must be TOTP or HOTP".to_owned()),
            },
            issuer: text(self.issuer, "issuer")?,
            label: text(self.name, "name")?.to_owned(),
            secret: &secret,
            algorithm: match self.algorithm {
                0 | 1 => "SHA1",
                2 => "SHA256",
                3 => "SHA512",
                _ => return Err("the algorithm must be SHA1, SHA256 or SHA512".to_owned()),
            },
            digits: Some(match self.digits {
                0 | 1 => 6,
                2 => 8,
                3 => 7,
                _ => return Err("the number of digits is not known".to_owned()),
            }),
            period: None,
            counter: Some(self.counter),
        };

        fields.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a field with bytes.
    fn bytes(number: u8, value: &[u8]) -> Vec<u8> {
        let length = u8::try_from(value.len()).expect("short");

        [&[number << 3 | 2, length], value].concat()
    }

    /// Returns the URI with a message.
    fn uri(message: &[u8]) -> String {
        let data = base64::engine::general_purpose::STANDARD.encode(message);
        let data = data.replace('+', "%2B").replace('/', "%2F");

        format!(
            "otpauth-migration://offline?data={}",
            data.replace('=', "%3D")
        )
    }

    fn read(uri: &str) -> Result<Parsed, String> {
        let mut parsed = Parsed::default();
        parse(uri, "line 1", &ItemLimits::default(), &mut parsed)?;

        Ok(parsed)
    }

    fn descriptions(parsed: Parsed) -> Vec<Result<String, String>> {
        let entries = parsed.entries.into_iter();
        entries
            .map(|found| found.item.map(|item| item.describe()))
            .collect()
    }

    #[test]
    fn entries_and_the_part_are_read() {
        let totp = [
            bytes(1, b"foobar"),
            bytes(2, b"Bank:alice"),
            bytes(3, b"Bank"),
            vec![0x20, 2, 0x28, 2, 0x30, 2],
        ];
        let hotp = [
            bytes(1, b"foobar"),
            bytes(2, b"bob"),
            vec![0x20, 1, 0x28, 1, 0x30, 1, 0x38, 5],
        ];
        let message = [
            bytes(1, &totp.concat()),
            bytes(1, &hotp.concat()),
            vec![0x10, 1, 0x18, 3, 0x20, 1, 0x28, 0xb9, 0x60],
        ];

        let parsed = read(&uri(&message.concat())).expect("an export");

        assert_eq!(
            parsed.parts,
            [Part {
                place: "line 1".to_owned(),
                batch: 12_345,
                size: 3,
                index: 1
            }]
        );
        assert_eq!(parsed.entries[1].place, "line 1, entry 2");
        let operation = parsed.entries[1].item.as_ref().expect("valid").operation(0);
        assert_eq!(
            operation["data"]["uri"],
            "otpauth://hotp/bob?secret=MZXW6YTBOI&algorithm=SHA1&digits=6&counter=5"
        );
        assert_eq!(
            descriptions(parsed),
            ["otp Bank:alice: Bank alice (totp)", "otp bob: bob (hotp)"]
                .map(|text| Ok(text.to_owned()))
        );
    }

    #[test]
    fn the_data_may_be_encoded_in_several_ways() {
        // As the app writes it, decoded as a form, and without padding.
        let message = bytes(1, &[bytes(1, b"\xef\xff\xbe"), bytes(2, b"a")].concat());
        let data = base64::engine::general_purpose::STANDARD.encode(&message);
        assert!("+/=".chars().all(|c| data.contains(c)), "{data}");

        for data in [
            data.clone(),
            data.replace('+', " "),
            data.replace('+', "-").replace('/', "_"),
            data.trim_end_matches('=').to_owned(),
            data.replace('+', "%2b").replace('=', "%3D"),
        ] {
            let uri = format!("OTPAUTH-MIGRATION://offline?data={data}");

            assert!(is_migration(&uri));
            assert_eq!(read(&uri).expect("an export").entries.len(), 1, "{uri}");
        }
    }

    #[test]
    fn broken_input_is_refused_and_not_repeated() {
        let whole = bytes(1, &[bytes(1, b"foobar"), bytes(2, b"alice")].concat());
        let impossible = [vec![0x18, 2, 0x20, 2], whole.clone()].concat();
        let huge = [vec![0x18, 0xff, 0xff, 0x03], whole.clone()].concat();

        for broken in [
            "otpauth-migration://offline".to_owned(),
            "otpauth-migration://offline?data=%%%".to_owned(),
            uri(&whole[..whole.len() - 3]),
            uri(&impossible),
            uri(&huge),
        ] {
            let reason = read(&broken).err().expect("refused");

            assert!(!reason.contains("alice"), "{reason}");
        }
    }

    #[test]
    fn an_entry_that_is_wrong_does_not_hinder_others() {
        let entry = |fields: &[Vec<u8>]| bytes(1, &fields.concat());
        let message = [
            entry(&[bytes(1, b""), bytes(2, b"a")]),
            entry(&[bytes(1, b"foobar"), bytes(2, b"\xff")]),
            entry(&[bytes(1, b"foobar"), bytes(2, b"b"), vec![0x20, 4]]),
            entry(&[bytes(1, b"foobar"), bytes(2, b"b"), vec![0x28, 9]]),
            entry(&[bytes(1, b"foobar"), bytes(2, b"b"), vec![0x30, 3]]),
            bytes(1, &[0x0a, 9, 1]),
            entry(&[bytes(1, b"foobar"), bytes(2, b"b")]),
        ];

        let parsed = read(&uri(&message.concat())).expect("an export");

        let outcomes: Vec<bool> = parsed
            .entries
            .iter()
            .map(|found| found.item.is_ok())
            .collect();
        assert_eq!(outcomes, [false, false, false, false, false, false, true]);
    }
}
