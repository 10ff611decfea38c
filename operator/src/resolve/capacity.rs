//! Sizes of a cache: percentages of the declared volume become bytes. Pure.
//!
//! The declared size counts, not what the filesystem in the pod says: for a local volume that is the node's disk. While volumes grow
//! towards it, what their claims say they have counts.

use crds::policy::Capacity;
use crds::registry_cache::RegistryCacheSpec;
use crds::values::{ByteSize, InvalidValue};

use super::Problem;
use crate::quantity;

/// Checked capacity, or every reason why it can't be used.
///
/// `room` tells how much of the declared bytes the volumes have already.
pub(super) fn capacity(
    spec: &RegistryCacheSpec,
    room: impl Fn(u64) -> u64,
) -> Result<Capacity, Vec<Problem>> {
    let (declared, field) = spec
        .storage
        .local_volume()
        .map_or(("", "storage.volume"), |(volume, field)| {
            (&*volume.size.0, field)
        });
    let Some(volume) = quantity::bytes(declared).filter(|bytes| *bytes > 0) else {
        return Err(vec![problem(
            &format!("{field}.size"),
            format!("{declared:?} is not a size of a volume; write one like 50Gi"),
        )]);
    };
    let present = room(volume);
    let mut problems = Vec::new();
    let mut read = |field: &str, text: &str| match size(text, volume) {
        Ok(size) if size.as_bytes() > volume => {
            problems.push(problem(
                field,
                format!("{text} is more than the volume has; write {declared} at most"),
            ));
            None
        }
        Ok(declared) if present < volume => {
            let percentage = size(text, present).unwrap_or(declared);
            Some(ByteSize::from_bytes(percentage.as_bytes().min(present)))
        }
        Ok(size) => Some(size),
        Err(reason) => {
            problems.push(problem(field, reason));
            None
        }
    };
    let max_size = read("capacity.maxSize", &spec.capacity.max_size);
    let min_free = spec
        .capacity
        .min_free
        .as_ref()
        .and_then(|text| read("capacity.minFree", text));
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Capacity {
        max_size,
        min_free,
        high_watermark: spec.capacity.high_watermark,
        low_watermark: spec.capacity.low_watermark,
    })
}

fn size(text: &str, volume: u64) -> Result<ByteSize, String> {
    let Some(percent) = text.strip_suffix('%') else {
        return text
            .parse()
            .map_err(|error: InvalidValue| error.to_string());
    };
    match percent.parse::<u64>() {
        // Divided first: the product of a huge volume would not fit.
        Ok(percent @ 1..=100) => Ok(ByteSize::from_bytes(
            volume / 100 * percent + volume % 100 * percent / 100,
        )),
        _ => Err(format!("{text:?} is not a percentage from 1% to 100%")),
    }
}

fn problem(field: &str, reason: String) -> Problem {
    Problem::Spec {
        field: field.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_of_the_volume() {
        let bytes = |text| size(text, 50 << 30).map(ByteSize::as_bytes);
        assert_eq!(bytes("100%"), Ok(50 << 30));
        assert_eq!(bytes("90%"), Ok(45 << 30));
        assert_eq!(bytes("10Gi"), Ok(10 << 30));
        for text in ["0%", "101%", "%", "90 %", "x"] {
            assert!(bytes(text).is_err(), "{text:?} was taken");
        }
        assert!(size("100%", u64::MAX).is_ok());
    }

    #[test]
    fn room_that_is_still_to_come_is_not_counted_on() {
        let mut spec: RegistryCacheSpec = serde_saphyr::from_str(
            "{upstreams: [{host: docker.io}], storage: {volume: {size: 100Gi}}, capacity: {maxSize: 90%}}",
        )
        .unwrap();
        let bytes = |spec: &RegistryCacheSpec, present: u64| {
            let capacity = capacity(spec, |declared| declared.min(present)).unwrap();
            capacity.max_size.map(ByteSize::as_bytes)
        };
        assert_eq!(bytes(&spec, 50 << 30), Some(45 << 30));
        assert_eq!(bytes(&spec, u64::MAX), Some(90 << 30));
        spec.capacity.max_size = "80Gi".to_owned();
        assert_eq!(bytes(&spec, 50 << 30), Some(50 << 30));
        assert_eq!(bytes(&spec, 100 << 30), Some(80 << 30));
    }
}
