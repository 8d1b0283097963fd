//! Zones: which of them each instance of a group stands in.

use std::collections::BTreeMap;

use platform_blueprint::ZoneName;

use crate::group::GroupSpec;

impl GroupSpec {
    /// The zone that an instance stands in, where the service names any: they are dealt in turn.
    ///
    /// It goes by the instance's number alone, so neither scaling nor replacing one moves another.
    ///
    /// - `number`: the instance's in its group, from 1
    pub fn zone(&self, number: u32) -> Option<&ZoneName> {
        let zones = &self.spec.service.zones;
        let turn = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
        zones.get(turn.checked_rem(zones.len())?)
    }

    /// The places of its instances, all free.
    pub fn places(&self) -> Places<'_> {
        let mut free = BTreeMap::new();
        for number in 1..=self.replicas {
            *free.entry(self.zone(number)).or_default() += 1;
        }
        Places { group: self, free }
    }
}

/// The places that a group has for instances, in each zone as many as were dealt to it.
///
/// For targets on which numbers have gaps, as an instance is gone before the one that replaces it or after.
#[derive(Debug, Clone)]
pub struct Places<'a> {
    group: &'a GroupSpec,
    free: BTreeMap<Option<&'a ZoneName>, u32>,
}

impl Places<'_> {
    /// Gives an instance a place in its zone, if there is one left.
    ///
    /// - `number`: the instance's in its group, from 1
    pub fn take(&mut self, number: u32) -> bool {
        let free = self.free.get_mut(&self.group.zone(number));
        let free = free.filter(|free| 0 < **free);
        free.map(|free| *free -= 1).is_some()
    }

    /// The lowest numbers for instances in the places that are left.
    ///
    /// - `used`: tells of a number that an instance has it
    pub fn fill(mut self, used: impl Fn(u32) -> bool) -> Vec<u32> {
        let left = self.free.values().map(|free| *free as usize).sum();
        let numbers = (1..).filter(|number| !used(*number));
        numbers
            .filter(|number| self.take(*number))
            .take(left)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use platform_blueprint::Service;
    use proptest::prelude::*;

    use super::*;
    use crate::digest::Digest;
    use crate::group::{Artifact, Place, ServiceSpec};

    /// A group of a service with these zones.
    fn group(replicas: u32, zones: &[&str]) -> GroupSpec {
        let service = Service {
            zones: zones.iter().map(|zone| zone.parse().unwrap()).collect(),
            ..Service::default()
        };
        let spec = ServiceSpec {
            service: Arc::new(service),
            artifact: Artifact {
                key: Digest::of(b"orders"),
                place: Place::Installed,
            },
            needs: Vec::new(),
            secrets: BTreeMap::new(),
            authority: None,
        };
        GroupSpec {
            id: "orders@r5".parse().unwrap(),
            replicas,
            digest: spec.digest(),
            spec,
        }
    }

    #[test]
    fn zones_are_a_part_of_the_spec() {
        let digests =
            [&[][..], &["a"], &["a", "b"], &["b", "a"]].map(|zones| group(2, zones).digest);
        for (number, digest) in digests.iter().enumerate() {
            assert!(!digests[..number].contains(digest), "{number}");
        }
        // How many there are moves none of them.
        assert_eq!(group(5, &["a", "b"]).digest, digests[2]);
    }

    #[test]
    fn instances_that_are_lost_leave_their_zones_to_others() {
        let check = |replicas: u32, zones: &[&str], there: &[u32], expected: (&[u32], &[u32])| {
            let group = group(replicas, zones);
            let mut places = group.places();
            let taken = there.iter().copied();
            let kept: Vec<u32> = taken.filter(|number| places.take(*number)).collect();
            let fresh = places.fill(|number| there.contains(&number));
            let seen = (kept.as_slice(), fresh.as_slice());
            assert_eq!(seen, expected, "{there:?} of {replicas} in {zones:?}");
        };
        check(2, &["a", "b"], &[], (&[], &[1, 2]));
        check(2, &["a", "b"], &[3], (&[3], &[2]));
        check(2, &["a", "b"], &[2], (&[2], &[1]));
        // The third stands where the first does.
        check(2, &["a", "b"], &[1, 3], (&[1], &[2]));
        check(3, &["a", "b"], &[1, 3], (&[1, 3], &[2]));
        check(2, &["a", "b"], &[3, 4, 1, 2], (&[3, 4], &[]));
        check(4, &["a", "b", "c"], &[4, 7], (&[4, 7], &[2, 3]));
        check(1, &["a", "b"], &[2], (&[], &[1]));
        check(0, &["a"], &[1], (&[], &[]));
        check(3, &[], &[2, 7], (&[2, 7], &[1]));
        check(1, &[], &[2, 7], (&[2], &[]));
    }

    fn some_zones() -> impl Strategy<Value = Vec<&'static str>> {
        (0..=5_usize).prop_map(|count| ["a", "b", "c", "d", "e"][..count].to_vec())
    }

    proptest! {
        #[test]
        fn zones_are_dealt_evenly_and_for_good(zones in some_zones(), replicas in 1..40_u32, more in 0..9_u32) {
            let (group, larger) = (group(replicas, &zones), group(replicas + more, &zones));
            let mut dealt: BTreeMap<Option<&ZoneName>, u32> = BTreeMap::new();
            for number in 1..=replicas {
                prop_assert_eq!(group.zone(number), larger.zone(number));
                *dealt.entry(group.zone(number)).or_default() += 1;
            }
            prop_assert_eq!(dealt.contains_key(&None), zones.is_empty());
            prop_assert_eq!(dealt.len(), zones.len().clamp(1, replicas as usize));
            let (least, most) = (dealt.values().min(), dealt.values().max());
            prop_assert!(most.unwrap() - least.unwrap() <= 1, "{:?}", dealt);
        }

        #[test]
        fn whoever_is_left_the_places_are_filled_as_they_were_dealt(
            zones in some_zones(),
            replicas in 0..20_u32,
            there in proptest::collection::btree_set(1..60_u32, 0..30),
        ) {
            let group = group(replicas, &zones);
            let mut places = group.places();
            let mut now: Vec<u32> = there.iter().copied().filter(|number| places.take(*number)).collect();
            let fresh = places.fill(|number| there.contains(&number));
            prop_assert!(fresh.iter().all(|number| !there.contains(number)));
            now.extend(fresh);
            prop_assert_eq!(now.len(), replicas as usize);
            let in_order = |numbers: Vec<u32>| {
                let mut zones: Vec<_> = numbers.into_iter().map(|number| group.zone(number)).collect();
                zones.sort();
                zones
            };
            prop_assert_eq!(in_order(now), in_order((1..=replicas).collect()));
        }
    }
}
