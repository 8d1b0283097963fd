//! Which version answers a request, and which of its endpoints.
//!
//! The choices are functions of values, so that their exactness is tested
//! without a socket.

use std::net::IpAddr;
use std::sync::Arc;

use crate::endpoint::EndpointState;

/// 2⁶⁴ divided by the golden ratio. Its multiples modulo 2⁶⁴ spread more
/// evenly over the range than those of any other number, so any run of n
/// requests meets each weight within about log(n) requests.
///
/// Source: Knuth, The Art of Computer Programming, volume 3, 6.4, theorem S.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The point in the range of all weights that the `turn`th request falls on.
pub(crate) fn spread(turn: u64) -> u64 {
    turn.wrapping_mul(GOLDEN)
}

/// Returns which weight a point falls on, `None` when all are zero.
///
/// - `point`: anywhere in the range of `u64`
/// - `weights`: in a fixed order
pub(crate) fn by_weight(point: u64, weights: impl Iterator<Item = u32> + Clone) -> Option<usize> {
    let total: u64 = weights.clone().map(u64::from).sum();
    if total == 0 {
        return None;
    }
    // The high half of point × total lies in 0..total.
    let scaled = (u128::from(point) * u128::from(total)) >> 64;
    let mut end = 0_u128;
    for (index, weight) in weights.enumerate() {
        end += u128::from(weight);
        if scaled < end {
            return Some(index);
        }
    }
    None
}

/// Mixes a number so that each bit depends on every other.
///
/// Source: the finalizer of `SplitMix64` (Steele, Lea, Flood 2014).
pub(crate) fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// A hash that is the same on every machine and in every release.
///
/// Source: FNV-1a, 64 bits, with a finalizer.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut value = 0xCBF2_9CE4_8422_2325_u64;
    for byte in bytes {
        value = (value ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
    }
    mix(value)
}

/// The hash of a client's address.
pub(crate) fn hash_address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => hash(&address.octets()),
        IpAddr::V6(address) => hash(&address.octets()),
    }
}

/// Returns which of the weighted names a client belongs to.
///
/// Weighted rendezvous hashing: each name draws from the client's hash, and
/// the highest draw, scaled by the weight, wins. A weight that grows only
/// attracts clients, so nobody moves between the other names.
///
/// Source: Schindelhauer and Schomaker, Weighted distributed hash tables (2005).
pub(crate) fn by_client<'a>(
    client: u64,
    weighted: impl Iterator<Item = (&'a str, u32)>,
) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, (name, weight)) in weighted.enumerate() {
        if weight == 0 {
            continue;
        }
        let draw = mix(client ^ hash(name.as_bytes()));
        #[expect(clippy::cast_precision_loss, reason = "53 bits are plenty")]
        let uniform = ((draw >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        let score = -f64::from(weight) / uniform.ln();
        if best.is_none_or(|(_, highest)| score > highest) {
            best = Some((index, score));
        }
    }
    best.map(|(index, _)| index)
}

/// The endpoint next in turn among those that are fit and not tried yet.
pub(crate) fn in_turn(
    endpoints: &[Arc<EndpointState>],
    turn: u64,
    fit: impl Fn(&EndpointState) -> bool,
) -> Option<usize> {
    let fits = |(_, endpoint): &(usize, &Arc<EndpointState>)| fit(endpoint);
    let count = endpoints.iter().enumerate().filter(fits).count();
    // Each of them alike also when others are left out.
    let nth = usize::try_from(turn.checked_rem(count as u64)?).unwrap_or(0);
    let mut fit = endpoints.iter().enumerate().filter(fits);
    fit.nth(nth).map(|(index, _)| index)
}

/// The less busy of two endpoints drawn from those that are fit.
///
/// Source: Mitzenmacher, The power of two choices (2001).
pub(crate) fn less_busy(
    endpoints: &[Arc<EndpointState>],
    draw: u64,
    fit: impl Fn(&EndpointState) -> bool,
) -> Option<usize> {
    let first = in_turn(endpoints, draw >> 32, &fit)?;
    let second = in_turn(
        endpoints,
        (draw & 0xFFFF_FFFF) + first as u64 + 1,
        |endpoint| !std::ptr::eq(endpoint, Arc::as_ptr(&endpoints[first])) && fit(endpoint),
    );
    match second {
        Some(second) if endpoints[second].in_flight.get() < endpoints[first].in_flight.get() => {
            Some(second)
        }
        _ => Some(first),
    }
}

/// The endpoint a key belongs to, by rendezvous hashing over the fit ones.
pub(crate) fn by_key(
    endpoints: &[Arc<EndpointState>],
    key: u64,
    fit: impl Fn(&EndpointState) -> bool,
) -> Option<usize> {
    endpoints
        .iter()
        .enumerate()
        .filter(|(_, endpoint)| fit(endpoint))
        .max_by_key(|(_, endpoint)| mix(key ^ hash(endpoint.id.as_bytes())))
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_hold_within_a_tenth_of_a_point_over_any_20_000() {
        for canary in [1_u32, 10, 50, 250, 500, 999] {
            for start in [0_u64, 12_345, u64::MAX - 5_000] {
                let taken = (0..20_000)
                    .filter(|turn| {
                        let weights = [1000 - canary, canary];
                        by_weight(spread(start.wrapping_add(*turn)), weights.into_iter()) == Some(1)
                    })
                    .count();
                let expected = 20 * canary as usize;
                assert!(taken.abs_diff(expected) <= 20, "{canary}: {taken}");
            }
        }
    }

    #[test]
    fn every_other_request_keeps_the_weights() {
        let taken = (0..20_000_u64)
            .filter(|turn| by_weight(spread(turn * 2), [900, 100].into_iter()) == Some(1))
            .count();
        assert!(taken.abs_diff(2_000) <= 20, "{taken}");
    }

    #[test]
    fn no_weight_at_all_chooses_nothing() {
        assert_eq!(by_weight(7, [0, 0].into_iter()), None);
    }

    #[test]
    fn clients_only_move_into_the_version_that_grows() {
        let place = |client: u64, canary: u32| {
            by_client(
                mix(client),
                [("r5", 1000 - canary), ("r6", canary)].into_iter(),
            )
        };
        let mut before = vec![Some(0); 20_000];
        for canary in [1_u32, 10, 50, 250, 500, 990, 1000] {
            let now: Vec<_> = (0..20_000).map(|client| place(client, canary)).collect();
            let moved_back = before
                .iter()
                .zip(&now)
                .filter(|(was, is)| **was == Some(1) && **is != Some(1))
                .count();
            assert_eq!(moved_back, 0);
            let share = now.iter().filter(|version| **version == Some(1)).count();
            let expected = 20 * canary as usize;
            // Random placement: four standard deviations.
            assert!(share.abs_diff(expected) <= 300, "{canary}: {share}");
            before = now;
        }
    }
}
