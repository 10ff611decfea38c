use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn blob(size: u64, used: u32) -> Item {
    Item {
        size,
        used,
        manifest: false,
        standing: Standing::Kept,
    }
}

fn limits(max: u64) -> Limits {
    Limits {
        max,
        high: max / 100 * 95,
        low: max / 100 * 85,
        disk: 0,
        coming: 0,
        in_use_since: 1000,
    }
}

fn places(plan: &Plan) -> Vec<usize> {
    plan.evict.iter().map(|(place, _)| *place).collect()
}

#[test]
fn nothing_goes_while_there_is_room() {
    let items = [blob(40 * MIB, 1), blob(50 * MIB, 2)];
    assert_eq!(plan(&items, &limits(100 * MIB)), Plan::default());
}

#[test]
fn what_was_not_used_for_longest_goes_down_to_the_low_watermark() {
    let items = [blob(30 * MIB, 3), blob(30 * MIB, 1), blob(40 * MIB, 2)];
    let plan = plan(&items, &limits(100 * MIB));
    assert_eq!(plan.evict, [(1, Reason::Capacity)]);
    assert_eq!((plan.freed, plan.short), (30 * MIB, 0));
}

#[test]
fn small_content_and_manifests_are_passed_over() {
    let manifest = Item {
        manifest: true,
        ..blob(2 * MIB, 1)
    };
    let items = [blob(MIB / 2, 1), manifest, blob(98 * MIB, 5)];
    assert_eq!(places(&plan(&items, &limits(100 * MIB))), [2]);
    // Beyond their share they are like all others.
    let mut items = vec![blob(MIB / 2, 5); 40];
    items.extend([blob(MIB / 2, 1), blob(79 * MIB, 6)]);
    assert_eq!(places(&plan(&items, &limits(100 * MIB)))[0], 40);
}

#[test]
fn what_rules_drop_goes_without_need() {
    let dropped = Item {
        standing: Standing::Dropped(Reason::Unused),
        ..blob(MIB, 5)
    };
    let plan = plan(&[blob(MIB, 1), dropped], &limits(100 * MIB));
    assert_eq!(plan.evict, [(1, Reason::Unused)]);
}

#[test]
fn what_is_coming_pushes_nothing_out_while_there_is_room_for_it() {
    // It counts twice for a moment, when it is stored and still said to be coming.
    let items = [blob(60 * MIB, 1), blob(30 * MIB, 2)];
    let coming = |coming| Limits {
        coming,
        ..limits(100 * MIB)
    };
    assert_eq!(plan(&items, &coming(10 * MIB)), Plan::default());
    let plan = plan(&items, &coming(11 * MIB));
    assert_eq!((places(&plan), plan.short), (vec![0], 0));
}

#[test]
fn nothing_goes_for_what_would_not_fit() {
    let items = [blob(50 * MIB, 1)];
    let limits = Limits {
        coming: 200 * MIB,
        ..limits(100 * MIB)
    };
    let plan = plan(&items, &limits);
    assert!(plan.evict.is_empty() && plan.short > 0);
}

#[test]
fn the_disk_gets_as_much_as_it_needs() {
    let items = [blob(10 * MIB, 1), blob(10 * MIB, 2), blob(10 * MIB, 3)];
    let limits = Limits {
        disk: 15 * MIB,
        ..limits(100 * MIB)
    };
    assert_eq!(
        plan(&items, &limits).evict,
        [(0, Reason::Disk), (1, Reason::Disk)]
    );
}

fn item() -> impl Strategy<Value = Item> {
    let standing = prop_oneof![
        6 => Just(Standing::Kept),
        1 => Just(Standing::Pinned),
        1 => Just(Standing::Dropped(Reason::Superseded)),
    ];
    (0..8 * MIB, 0..2000_u32, any::<bool>(), standing).prop_map(
        |(size, used, manifest, standing)| Item {
            size,
            used,
            manifest,
            standing,
        },
    )
}

proptest! {
    #[test]
    fn pinned_and_used_content_stays_and_enough_goes_or_it_is_said(
        items in prop::collection::vec(item(), 0..60),
        max in MIB..300 * MIB,
        disk in prop_oneof![Just(0), 0..100 * MIB],
        coming in prop_oneof![Just(0), 0..50 * MIB],
    ) {
        let limits = Limits { disk, coming, ..limits(max) };
        let plan = plan(&items, &limits);
        let mut gone = vec![false; items.len()];
        for place in places(&plan) {
            prop_assert!(!std::mem::replace(&mut gone[place], true), "twice");
            prop_assert!(items[place].standing != Standing::Pinned);
            prop_assert!(items[place].used < limits.in_use_since);
        }
        let freed: u64 = places(&plan).iter().map(|place| items[*place].size).sum();
        prop_assert_eq!(freed, plan.freed);
        let total: u64 = items.iter().map(|item| item.size).sum();
        if plan.short == 0 {
            prop_assert!(total - freed <= limits.high);
            prop_assert!(total - freed + coming <= limits.max);
            prop_assert!(freed >= disk);
        } else if coming == 0 {
            // All that could go went.
            let left = items.iter().zip(&gone).filter(|(item, gone)| {
                !**gone && item.standing == Standing::Kept && item.used < limits.in_use_since
            });
            prop_assert_eq!(left.count(), 0);
        }
    }
}
