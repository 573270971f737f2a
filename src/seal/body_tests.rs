use super::super::keyring::test_keyring;
use super::super::{ItemKey, Links, OwnerKeys, RecordName, SetCheck, StoredRefusal};
use super::*;
use crate::domain::{ItemLimits, Kind, Otp, Text};
use ciborium::cbor;
use std::collections::BTreeMap;

const OWNER: OwnerKey = OwnerKey::from_bytes([7; 16]);
const NAME: RecordName = RecordName::Item(ItemKey::from_bytes([3; 16]));
const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

fn item(kind: Kind, data: Data) -> Item {
    let limits = ItemLimits::default();

    Item {
        kind: kind.into(),
        id: ItemId::parse(kind, "note", &limits).expect("well formed"),
        data: Some(data),
        meta: Meta::default(),
        tags: Tags::parse(["t".to_owned()], &limits).expect("well formed"),
        place: Place::of_creation(41, 2),
        created_at: Timestamp::from_millis(1),
        updated_at: Timestamp::from_millis(2),
    }
}

fn body(content: Content) -> Body {
    Body {
        operation: Uuid::from_u128(5),
        shard: "a".into(),
        born: Version::new(3).expect("in range"),
        born_request: Some(RequestHash::from_bytes([1; 16])),
        part: Part::WHOLE,
        content,
    }
}

fn text() -> Body {
    let data = Data::Text(Text::parse("hello", &ItemLimits::default()).expect("well formed"));
    body(Content::Living(item(Kind::Text, data)))
}

fn otp() -> (Body, Hidden) {
    let otp = Otp::parse(&format!("otpauth://totp/a?secret={SECRET}")).expect("valid");
    let data = Data::Otp(otp.facts().clone());

    (
        body(Content::Living(item(Kind::Otp, data))),
        Hidden::Otp(otp.hidden().clone()),
    )
}

/// The owner's keys, and a record with that content at version 9.
fn sealed(format: Format, plain: Vec<u8>) -> (OwnerKeys, Record) {
    let keys = test_keyring().new_owner_keys();
    let links = Links {
        format,
        prev: Version::new(8).expect("in range"),
        item_prev: Version::NONE,
        before: SetCheck::from_bytes([0; 16]),
        request: None,
        deleted: false,
    };
    let value = keys.seal(&OWNER, NAME, &links, plain).into();
    let version = Version::new(9).expect("in range");
    let record = Record::parse(NAME, version, Timestamp::from_millis(0), value);

    (keys, record.expect("well formed"))
}

fn encode_and_open(format: Format, body: &Body) -> Body {
    let plain = body.encode(format, &Tail::Shown).expect("encodable");
    let (keys, record) = sealed(format, plain);
    Body::open(&keys, &OWNER, &record).expect("just encoded")
}

#[test]
fn a_living_item_reads_back_as_written_in_both_formats() {
    let opened = [Format::One, Format::Two].map(|format| encode_and_open(format, &text()));

    for body in &opened {
        assert_eq!(body.operation.as_u128(), 5);
        assert_eq!(body.shard, "a");
        assert_eq!(body.born.get(), 3);
        assert_eq!(body.born_request, Some(RequestHash::from_bytes([1; 16])));
    }
    let [one, two] = opened.map(|body| match body.content {
        Content::Living(item) => item,
        Content::Deleted { .. } => panic!("a deletion"),
    });
    let Content::Living(written) = text().content else {
        panic!("a deletion")
    };
    assert!(two == written);
    assert_eq!(one.place, Place::of_creation(2, 0), "by its birth");
    assert!(
        Item {
            place: written.place.clone(),
            ..one
        } == written
    );
}

#[test]
fn the_part_of_a_write_reads_back_as_written() {
    let refusal = |shown| StoredRefusal {
        json: "{}".into(),
        shown: Version::new(shown).expect("in range"),
    };
    let part = Part {
        records: Some(4),
        of: 3,
        followed_by: 1,
        refused: BTreeMap::from([(2, refusal(0)), (7, refusal(9))]),
    };
    let body = Body {
        part: part.clone(),
        ..text()
    };

    let opened = encode_and_open(Format::Two, &body);
    let opened_one = encode_and_open(Format::One, &body);
    let opened_single = encode_and_open(Format::Two, &text());

    assert_eq!(opened.part, part);
    let records = None;
    assert_eq!(opened_one.part, Part { records, ..part });
    assert_eq!(opened_single.part, Part::WHOLE);
}

#[test]
fn a_refusal_without_the_version_of_its_item_is_read() {
    let encoded = text().encode(Format::One, &Tail::Shown).expect("encodable");
    let part = cbor!({"n" => 1, "f" => 0, "x" => {1 => "refusal"}}).expect("CBOR");
    let mut stored: ciborium::Value = ciborium::from_reader(&*encoded).expect("CBOR");
    stored.as_map_mut().expect("a map").push(("p".into(), part));
    let mut sealed_by_an_earlier_version = Vec::new();
    ciborium::into_writer(&stored, &mut sealed_by_an_earlier_version).expect("written");
    let (keys, record) = sealed(Format::One, sealed_by_an_earlier_version);

    let body = Body::open(&keys, &OWNER, &record).expect("a body");

    let refusal = StoredRefusal {
        json: "refusal".into(),
        shown: Version::NONE,
    };
    assert_eq!(body.part.refused, BTreeMap::from([(1, refusal)]));
}

#[test]
fn a_deletion_reads_back_as_written() {
    let Content::Living(item) = text().content else {
        panic!("a deletion")
    };
    let deleted = body(Content::Deleted {
        kind: item.kind,
        id: item.id,
        updated_at: Timestamp::from_millis(9),
    });

    for format in [Format::One, Format::Two] {
        let Content::Deleted {
            kind,
            id,
            updated_at,
        } = encode_and_open(format, &deleted).content
        else {
            panic!("not a deletion")
        };
        assert_eq!(kind, Kind::Text.into());
        assert_eq!(id.as_str(), "note");
        assert_eq!(updated_at.millis(), 9);
    }
}

#[test]
fn what_replies_hide_is_apart_from_what_they_show() {
    let (body, hidden) = otp();
    let plain = body
        .encode(Format::Two, &Tail::Hidden(&hidden))
        .expect("encodable");
    let spare = plain.capacity() - plain.len();
    let (keys, record) = sealed(Format::Two, plain);

    let opened = Body::open(&keys, &OWNER, &record).expect("a body");
    let opened_hidden = Body::open_hidden(&keys, &OWNER, &record).expect("a body");

    assert!(spare >= TAG_BYTES, "it is sealed in place");
    assert_eq!(opened.content.kind(), &Kind::Otp.into());
    assert!(opened_hidden == Some(hidden));
}

#[test]
fn the_first_format_has_no_secrets() {
    let (body, hidden) = otp();

    let encoded = body.encode(Format::One, &Tail::Hidden(&hidden));

    assert_eq!(encoded.err(), Some(SealError::Malformed));
}

#[test]
fn an_item_of_an_unknown_kind_is_carried_along() {
    let mut plain = text().encode(Format::Two, &Tail::Shown).expect("encodable");
    let tail = cbor!({"melody" => [1, 2]}).expect("CBOR");
    let mut unknown = text();
    let Content::Living(item) = &mut unknown.content else {
        panic!("a deletion")
    };
    item.kind = KindName::Unknown("song".into());
    item.data = None;
    let mut bytes = Vec::new();
    ciborium::into_writer(&tail, &mut bytes).expect("written");

    plain.clear();
    plain.extend(
        unknown
            .encode(Format::Two, &Tail::Kept(&bytes))
            .expect("encodable"),
    );
    let (keys, record) = sealed(Format::Two, plain);

    let opened = Body::open(&keys, &OWNER, &record).expect("a head");
    let kept = Body::open_tail(&keys, &OWNER, &record).expect("a head");
    let hidden = Body::open_hidden(&keys, &OWNER, &record).expect("a head");
    assert_eq!(opened.content.kind().as_str(), "song");
    assert_eq!(kept.expect("format 2").as_slice(), bytes);
    assert!(hidden.is_none());
}

#[test]
fn other_bytes_are_refused() {
    for format in [Format::One, Format::Two] {
        for bytes in ["", "\u{20}"] {
            let (keys, record) = sealed(format, bytes.into());
            assert_eq!(
                Body::open(&keys, &OWNER, &record).err(),
                Some(SealError::Malformed)
            );
        }
    }
}

#[test]
fn fuzz_the_opened_body() {
    bolero::check!().for_each(|plain: &[u8]| {
        let _ = Body::decode(plain);
        let _ = format_one::decode(plain);
    });
}

/// An attacker who can write to a store can write any value.
#[test]
fn fuzz_the_record() {
    let keys = test_keyring().new_owner_keys();
    let names = [RecordName::Key, RecordName::Floor, NAME];
    let version = Version::new(1 << 40).expect("in range");

    bolero::check!().for_each(|value: &[u8]| {
        for name in names {
            let value = value.to_vec().into();
            let Ok(record) = Record::parse(name, version, Timestamp::from_millis(0), value) else {
                continue;
            };
            assert!(record.envelope.prev < version);
            assert!(keys.open(&OWNER, &record).is_err());
        }
    });
}
