//! Which content goes. Pure: from what is there to a list.
//!
//! First goes what rules no longer keep. Then, if there is too much, what was not used for longest, down to the low
//! watermark. Too much is what is stored above the high one, or with what is coming above the capacity: what has just come
//! counts twice for a moment, and would push others out if it counted for the watermark.
//!
//! Small content and manifests cost a round trip each and hardly any room, so the latest used of them are passed over up to
//! a small part of the capacity, until nothing else is left. Never goes what is pinned or in use.

/// Content below this size is fetched mostly in the time of a round trip.
const SMALL: u64 = 1 << 20;
/// One in so many bytes of the capacity is for small content.
const SMALL_SHARE: u64 = 20;

/// Why content goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Not used for as long as a rule says.
    Unused,
    /// Of a tag that is not among the newest any more.
    Superseded,
    /// There was more than `maxSize` allows.
    Capacity,
    /// Less was free on the disk than must be.
    Disk,
}

impl Reason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Superseded => "superseded",
            Self::Capacity => "capacity",
            Self::Disk => "disk",
        }
    }
}

/// What the rules say of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It stays while there is room.
    Kept,
    Pinned,
    /// It goes in any case.
    Dropped(Reason),
}

/// Content in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    pub size: u64,
    /// Seconds since 1970.
    pub used: u32,
    pub manifest: bool,
    pub standing: Standing,
}

/// How much may be there. All in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub max: u64,
    pub high: u64,
    pub low: u64,
    /// What must be freed on the disk.
    pub disk: u64,
    /// What is about to come.
    pub coming: u64,
    /// Content used at or after this second is in use.
    pub in_use_since: u32,
}

impl Limits {
    /// Bytes that are too many if so many are stored.
    pub fn excess(&self, stored: u64) -> u64 {
        let with_coming = stored.saturating_add(self.coming);
        let above = stored.saturating_sub(self.high);
        above.max(with_coming.saturating_sub(self.max))
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Places in the list of items.
    pub evict: Vec<(usize, Reason)>,
    pub freed: u64,
    /// Bytes that are too many all the same. Nothing was given up for what is coming then.
    pub short: u64,
}

/// Plans.
pub fn plan(items: &[Item], limits: &Limits) -> Plan {
    let with = |coming| attempt(items, &Limits { coming, ..*limits });
    let planned = with(limits.coming);
    if planned.short > 0 && limits.coming > 0 {
        // It would not fit: what is there must not go for nothing.
        return Plan {
            short: planned.short,
            ..with(0)
        };
    }
    planned
}

fn attempt(items: &[Item], limits: &Limits) -> Plan {
    let mut plan = Plan::default();
    let is_free =
        |item: &Item| item.used < limits.in_use_since && item.standing != Standing::Pinned;
    for (place, item) in items.iter().enumerate() {
        if let Standing::Dropped(reason) = item.standing
            && is_free(item)
        {
            plan.take(place, item, reason);
        }
    }
    let stored: u64 = items.iter().map(|item| item.size).sum();
    let all = |plan: &Plan| (stored - plan.freed).saturating_add(limits.coming);
    let excess = |plan: &Plan| limits.excess(stored - plan.freed);
    let disk = |plan: &Plan| limits.disk.saturating_sub(plan.freed);
    if excess(&plan) == 0 && disk(&plan) == 0 {
        return plan;
    }
    let (ordinary, protected) = candidates(items, limits, is_free);
    let reason = if excess(&plan) > 0 {
        Reason::Capacity
    } else {
        Reason::Disk
    };
    // Below the high watermark only the disk asks for room.
    let mark = match reason {
        Reason::Disk => u64::MAX,
        _ => limits.low,
    };
    for place in ordinary {
        if all(&plan) <= mark && disk(&plan) == 0 {
            break;
        }
        plan.take(place, &items[place], reason);
    }
    for place in protected {
        if excess(&plan) == 0 && disk(&plan) == 0 {
            break;
        }
        plan.take(place, &items[place], reason);
    }
    plan.short = excess(&plan).max(disk(&plan));
    plan
}

/// Places of what may go, longest unused first: what goes first, and what goes last.
fn candidates(
    items: &[Item],
    limits: &Limits,
    is_free: impl Fn(&Item) -> bool,
) -> (Vec<usize>, Vec<usize>) {
    let mut places: Vec<usize> = (0..items.len())
        .filter(|place| items[*place].standing == Standing::Kept && is_free(&items[*place]))
        .collect();
    places.sort_by_key(|place| items[*place].used);
    let mut budget = limits.max / SMALL_SHARE;
    let mut protected = vec![false; items.len()];
    for place in places.iter().rev() {
        let item = &items[*place];
        if (item.manifest || item.size < SMALL) && item.size <= budget {
            budget -= item.size;
            protected[*place] = true;
        }
    }
    places.into_iter().partition(|place| !protected[*place])
}

impl Plan {
    fn take(&mut self, place: usize, item: &Item, reason: Reason) {
        self.evict.push((place, reason));
        self.freed += item.size;
    }
}

#[cfg(test)]
mod tests;
