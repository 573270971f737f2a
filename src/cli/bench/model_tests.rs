//! The checks of replies, right and falsified ones.

use super::*;
use crate::cli::bench::reply::Data;

const RUN: &str = "1f0a";

fn owner() -> OwnerModel {
    OwnerModel::new(RUN, 3, 2, 60)
}

/// Writes an item as the service would.
fn put(owner: &OwnerModel, item: usize, version: u64) -> Shown {
    let write = owner.begin_write(item, false);
    owner.end_write(item, write, WriteEnd::Acknowledged(version));

    shown(owner, item, write, version)
}

fn delete(owner: &OwnerModel, item: usize, version: u64) {
    let write = owner.begin_write(item, true);
    owner.end_write(item, write, WriteEnd::Acknowledged(version));
}

fn shown(owner: &OwnerModel, item: usize, write: Write, version: u64) -> Shown {
    Shown {
        kind: KIND.into(),
        id: id(item),
        version,
        data: Data {
            text: owner.text(item, write),
        },
        ..Shown::default()
    }
}

#[test]
fn what_was_written_is_right() {
    let owner = owner();
    let first = put(&owner, 0, 7);
    let floor = owner.floor(0);

    assert_eq!(owner.check_shown(floor, &first), Ok(()));
    assert_eq!(first.data.text.len(), 60);
    assert_eq!(owner.version_of(0), 7);
}

#[test]
fn an_older_version_than_acknowledged_is_wrong() {
    let owner = owner();
    let first = put(&owner, 0, 7);
    let before = owner.floor(0);
    put(&owner, 0, 9);

    // It was sent before the second write was acknowledged: either may be shown.
    assert_eq!(owner.check_shown(before, &first), Ok(()));
    assert_eq!(
        owner.check_shown(owner.floor(0), &first),
        Err(Wrong::Version)
    );
    assert_eq!(owner.note_seen(7, 9), Err(Wrong::Version));
}

#[test]
fn a_falsified_reply_is_wrong() {
    let owner = owner();
    let right = put(&owner, 0, 7);
    let floor = owner.floor(0);
    let check = |change: fn(&mut Shown)| {
        let mut wrong = right.clone();
        change(&mut wrong);
        owner.check_shown(floor, &wrong)
    };

    // The content of one version under another.
    assert_eq!(check(|item| item.version = 8), Err(Wrong::Version));
    // An item of another owner, of another run, of another number.
    assert_eq!(
        check(|item| item.data.text = "1f0a 4 0 1 x".into()),
        Err(Wrong::Foreign)
    );
    assert_eq!(
        check(|item| item.data.text = "2f0a 3 0 1 x".into()),
        Err(Wrong::Foreign)
    );
    assert_eq!(check(|item| item.id = id(1)), Err(Wrong::Foreign));
    // A write that this run never made, and something else.
    assert_eq!(
        check(|item| item.data.text = "1f0a 3 0 99 x".into()),
        Err(Wrong::Foreign)
    );
    assert_eq!(
        check(|item| item.data.text = "milk".into()),
        Err(Wrong::Foreign)
    );
    assert_eq!(check(|item| item.deleted = true), Err(Wrong::Foreign));
}

#[test]
fn a_missing_item_is_wrong_unless_it_was_deleted() {
    let owner = owner();
    let other = put(&owner, 1, 6);
    put(&owner, 0, 7);
    let floors = owner.floors();

    assert_eq!(owner.check_missing(0, floors[0]), Err(Wrong::Missing));
    let page = [other.clone()];
    assert_eq!(owner.check_list(&floors, &page, true), Err(Wrong::Missing));
    assert_eq!(owner.check_list(&floors, &page, false), Ok(()));
    assert_eq!(
        owner.check_list(&floors, &[other.clone(), other.clone()], false),
        Err(Wrong::Form)
    );

    delete(&owner, 0, 9);
    assert_eq!(owner.check_list(&floors, &page, true), Ok(()));
    assert_eq!(owner.choose_put(&mut Random::new(1)), 0);
}

#[test]
fn a_write_without_an_answer_may_be_seen_or_not() {
    let owner = owner();
    let before = put(&owner, 0, 7);
    let write = owner.begin_write(0, false);
    owner.end_write(0, write, WriteEnd::InDoubt);
    let floor = owner.floor(0);

    assert_eq!(owner.check_shown(floor, &before), Ok(()));
    assert_eq!(
        owner.check_shown(floor, &shown(&owner, 0, write, 8)),
        Ok(())
    );

    let refused = owner.begin_write(0, false);
    owner.end_write(0, refused, WriteEnd::Refused);
    let never = shown(&owner, 0, refused, 9);
    assert_eq!(owner.check_shown(floor, &never), Err(Wrong::Foreign));
}

#[test]
fn changes_ascend_from_the_version_asked_for() {
    let owner = owner();
    let one = put(&owner, 0, 7);
    let two = put(&owner, 1, 8);

    assert_eq!(owner.check_changes(6, &[one.clone(), two.clone()]), Ok(()));
    assert_eq!(
        owner.check_changes(7, &[one.clone(), two.clone()]),
        Err(Wrong::Version)
    );
    assert_eq!(owner.check_changes(6, &[two, one]), Err(Wrong::Version));
}

#[test]
fn the_reply_to_a_write_is_about_that_write() {
    let owner = owner();
    let floor = owner.floor(0);
    let write = owner.begin_write(0, false);
    let right = shown(&owner, 0, write, 5);

    assert_eq!(owner.check_written(0, write, floor, &right), Ok(()));
    let deleted = Shown {
        deleted: true,
        ..right.clone()
    };
    assert_eq!(
        owner.check_written(0, write, floor, &deleted),
        Err(Wrong::Form)
    );
    owner.end_write(0, write, WriteEnd::Acknowledged(5));
    assert_eq!(
        owner.check_written(0, write, owner.floor(0), &right),
        Err(Wrong::Version)
    );
}
