//! The parts of a request that only compute: reading its body, sealing and opening an item, checking
//! an owner's set, and writing the reply. `cargo bench` measures them.

#![expect(
    clippy::expect_used,
    reason = "a benchmark whose data cannot be made ends"
)]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use gofavorites::domain::{
    Data, Item, ItemId, ItemLimits, Kind, Meta, Place, Tags, Text, Timestamp, Version,
};
use gofavorites::seal::{
    Body, Content, Format, ItemKey, Keyring, Links, OwnerKey, OwnerKeys, OwnerSet, Part, Record,
    RecordName, Tail,
};
use gofavorites::wire::{BodyLimits, Encoding, ItemView, decode, encode};
use serde_json::json;
use std::collections::BTreeMap;
use std::hint::black_box;
use uuid::Uuid;

const OWNER: OwnerKey = OwnerKey::from_bytes([7; 16]);
const ENCODINGS: [(&str, Encoding); 2] = [("json", Encoding::Json), ("cbor", Encoding::Cbor)];
/// The items of the owner whose list is written and whose set is checked.
const ITEMS: u8 = 20;

fn item() -> Item {
    let limits = ItemLimits::default();
    let text = Text::parse(&"x".repeat(100), &limits).expect("a text");

    Item {
        kind: Kind::Text.into(),
        id: ItemId::parse(Kind::Text, "note", &limits).expect("an id"),
        data: Some(Data::Text(text)),
        meta: Meta::default(),
        tags: Tags::parse(["watch".to_owned()], &limits).expect("tags"),
        place: Place::of_creation(41, 2),
        created_at: Timestamp::from_millis(1),
        updated_at: Timestamp::from_millis(2),
    }
}

fn keyring() -> Keyring {
    let key = |digit: &str| format!("{}=", digit.repeat(43));

    Keyring::from_base64(&key("A"), &key("E")).expect("keys")
}

fn plain() -> Vec<u8> {
    let body = Body {
        operation: Uuid::nil(),
        shard: "a".into(),
        born: Version::NONE,
        born_request: None,
        part: Part {
            records: Some(1),
            of: 1,
            followed_by: 0,
            refused: BTreeMap::new(),
        },
        content: Content::Living(item()),
    };

    body.encode(Format::Two, &Tail::Shown).expect("encodable")
}

/// Returns the next record of that item, based on the set.
fn record(keyring: &Keyring, keys: &OwnerKeys, set: &OwnerSet, item: u8) -> Record {
    let name = RecordName::Item(ItemKey::from_bytes([item; 16]));
    let links = Links {
        format: Format::Two,
        prev: set.version(),
        item_prev: set.get(&name).map(|one| one.version).unwrap_or_default(),
        before: set.check(keyring, Format::Two),
        request: None,
        deleted: false,
    };
    let value = keys.seal(&OWNER, name, &links, plain());
    let version = Version::new(set.version().get() + 1).expect("in range");

    Record::parse(name, version, Timestamp::from_millis(0), value.into()).expect("well formed")
}

fn wire(criterion: &mut Criterion) {
    let limits = BodyLimits { nesting: 16 };
    let request =
        json!({"kind": "text", "id": "note", "data": {"text": "x".repeat(100)}, "tags": ["watch"]});
    let version = Version::new(9).expect("in range");
    let items: Vec<_> = (0..ITEMS).map(|_| item()).collect();
    let views = || -> Vec<_> {
        let items = black_box(&items).iter();
        items.map(|item| ItemView::living(item, version)).collect()
    };

    for (name, encoding) in ENCODINGS {
        let body = encode(&request, encoding);
        criterion.bench_function(&format!("decode a put, {name}"), |bencher| {
            bencher.iter(|| decode(black_box(&body), encoding, &limits));
        });
        criterion.bench_function(&format!("encode a list of {ITEMS}, {name}"), |bencher| {
            bencher.iter(|| encode(&views(), encoding));
        });
    }
}

fn seal(criterion: &mut Criterion) {
    let keyring = keyring();
    let keys = keyring.new_owner_keys();
    let mut set = OwnerSet::empty(OWNER);
    for item in 0..ITEMS {
        let record = record(&keyring, &keys, &set, item);
        set = set.apply(&keyring, [record]).expect("based on the set");
    }
    let next = record(&keyring, &keys, &set, 0);

    criterion.bench_function("seal an item", |bencher| {
        bencher.iter(|| record(&keyring, &keys, black_box(&set), 0));
    });
    criterion.bench_function("open an item", |bencher| {
        bencher.iter(|| Body::open(&keys, &OWNER, black_box(&next)));
    });
    criterion.bench_function(&format!("add a record to a set of {ITEMS}"), |bencher| {
        let add = |record: Record| set.apply(&keyring, [record]).expect("based on the set");
        bencher.iter_batched(|| next.clone(), add, BatchSize::SmallInput);
    });
}

criterion_group!(hot_paths, wire, seal);
criterion_main!(hot_paths);
