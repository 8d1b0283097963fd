//! The order in which services start: what is needed comes first.

use std::collections::BTreeMap;

use crate::{Resolved, ServiceName, Services};

/// The services in layers: those of a layer need only those of layers before
/// it, so a layer can start at once. Services in a circle, which a valid
/// blueprint does not have, are left out.
pub fn service_order(resolved: &Resolved) -> Vec<Vec<ServiceName>> {
    Needs::of(&resolved.services)
        .layers()
        .into_iter()
        .map(|layer| layer.into_iter().cloned().collect())
        .collect()
}

/// Which service needs which, by number.
pub(crate) struct Needs<'resolved> {
    names: Vec<&'resolved ServiceName>,
    needs: Vec<Vec<usize>>,
}

impl<'resolved> Needs<'resolved> {
    pub(crate) fn of(services: &'resolved Services) -> Self {
        let names: Vec<_> = services.keys().collect();
        let numbers: BTreeMap<&str, usize> = names
            .iter()
            .enumerate()
            .map(|(number, name)| (name.as_str(), number))
            .collect();
        let needs = services
            .values()
            .map(|service| {
                let mut needs: Vec<usize> = service
                    .needs
                    .iter()
                    .filter_map(|need| numbers.get(need.as_str()).copied())
                    .collect();
                needs.sort_unstable();
                needs.dedup();
                needs
            })
            .collect();
        Self { names, needs }
    }

    fn layers(&self) -> Vec<Vec<&'resolved ServiceName>> {
        self.peel(&mut vec![false; self.names.len()])
    }

    /// Takes away layer after layer of services whose needs are taken away.
    fn peel(&self, taken: &mut [bool]) -> Vec<Vec<&'resolved ServiceName>> {
        let mut open = vec![0_usize; self.names.len()];
        let mut needed_by = vec![Vec::new(); self.names.len()];
        for (service, needs) in self.needs.iter().enumerate() {
            for need in needs.iter().filter(|need| !taken[**need]) {
                open[service] += 1;
                needed_by[*need].push(service);
            }
        }
        let mut layers = Vec::new();
        let mut layer: Vec<usize> = (0..self.names.len())
            .filter(|service| open[*service] == 0 && !taken[*service])
            .collect();
        while !layer.is_empty() {
            let mut next = Vec::new();
            for service in &layer {
                taken[*service] = true;
                for waiting in &needed_by[*service] {
                    open[*waiting] -= 1;
                    if open[*waiting] == 0 && !taken[*waiting] {
                        next.push(*waiting);
                    }
                }
            }
            layer.sort_unstable();
            layers.push(layer.iter().map(|service| self.names[*service]).collect());
            layer = next;
        }
        layers
    }

    /// Circles that share no service, at most `limit`, each beginning with
    /// its first name.
    pub(crate) fn circles(&self, limit: usize) -> Vec<Vec<&'resolved ServiceName>> {
        let mut taken = vec![false; self.names.len()];
        let mut circles = Vec::new();
        while circles.len() < limit {
            self.peel(&mut taken);
            // What is left needs something that is left, so every walk ends in a circle.
            let Some(start) = taken.iter().position(|taken| !taken) else {
                break;
            };
            let mut steps = Vec::new();
            let mut met = vec![false; self.names.len()];
            let mut here = start;
            while !met[here] {
                met[here] = true;
                steps.push(here);
                here = self.needs[here]
                    .iter()
                    .copied()
                    .find(|need| !taken[*need])
                    .unwrap_or(here);
            }
            let mut circle: Vec<usize> =
                steps.into_iter().skip_while(|step| *step != here).collect();
            if let Some(least) = circle.iter().min().copied() {
                while circle.first() != Some(&least) {
                    circle.rotate_left(1);
                }
            }
            for service in &circle {
                taken[*service] = true;
            }
            circles.push(circle.iter().map(|service| self.names[*service]).collect());
        }
        circles
    }
}
