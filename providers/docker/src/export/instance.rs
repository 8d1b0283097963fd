//! The instances of services in an exported environment.

use std::collections::BTreeMap;

use platform_blueprint::{Check, ServiceName};
use platform_compose::model::Service;
use platform_decide::desired::DesiredService;
use platform_decide::group::{GroupSpec, Need, Place};
use platform_port::TargetError;

use super::{Draft, body, condition, group, unknown_image};
use crate::PROVIDER;
use crate::container::{self, Instance};
use crate::inside::handed_file;
use crate::names::instance_name;
use crate::surroundings::{Inputs, surroundings};

impl Draft<'_> {
    /// Puts a service's instances into the Compose file.
    pub(super) fn service(
        &mut self,
        name: &ServiceName,
        wanted: &DesiredService,
    ) -> Result<(), TargetError> {
        let group = group(name, wanted);
        let mut needs = BTreeMap::new();
        for need in &group.spec.needs {
            needs.insert(need.variable(), self.address(need)?);
        }
        let known = self.around.images.get(name.as_str()).cloned();
        let reference = match (&known, &group.spec.artifact.place) {
            (Some(image), _) => image.reference.clone(),
            (None, Place::Image { reference }) => reference.clone(),
            (None, _) => String::new(),
        };
        if known.is_none() {
            self.out.unknown.insert(reference.clone());
        }
        let image = known.clone().unwrap_or_default();
        let own_words = !group.spec.service.command.is_empty();
        for (index, key) in self.keys[name].clone().iter().enumerate() {
            let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
            // Where the image is not known, a word stands for what it runs by itself.
            let unknown = [String::new()];
            let instance = instance_name(&group.id, number);
            let found = surroundings(&Inputs {
                names: &self.around.names,
                group: &group,
                instance: &instance,
                zone: group.zone(number),
                needs: needs.clone(),
                secrets: self.asked.secrets,
                // Certificates are for who is deployed: nobody replaces them here.
                token: None,
                // Compose tells the gateway nothing.
                leaves_first: false,
                image_command: match &known {
                    Some(image) => &image.command,
                    None => &unknown,
                },
            });
            let mut own = found
                .map_err(|why| TargetError::refused(PROVIDER, format!("export {name}"), why))?;
            let mut arguments = None;
            if known.is_none() && !own_words {
                if own.is_handed() {
                    return Err(unknown_image(name.as_str(), &reference));
                }
                own.command.remove(0);
                arguments = Some(std::mem::take(&mut own.command));
            }
            let body = container::instance(&Instance {
                names: &self.around.names,
                group: &group,
                number,
                image: &reference,
                image_user: &image.user,
                surroundings: &own,
                network: &self.network(),
                address: None,
                init: self.around.init,
                program: (&self.around.program, &self.program_volume()),
                live: false,
            });
            let mut service = body::service(body, &self.around.names);
            if let Some(arguments) = arguments {
                // What the image runs by itself stays; Compose has it otherwise only with a command of its own.
                service.entrypoint = None;
                service.command = body::words(&arguments);
            }
            if known.is_none() && group.spec.service.user.is_none() {
                service.user = None;
            }
            self.needs(&mut service, &group);
            let file = handed_file(&instance);
            let handed = own.is_handed().then_some((file.as_str(), &own.handed));
            self.put(key, service, handed);
        }
        Ok(())
    }

    /// Has a service wait for what it needs.
    fn needs(&self, service: &mut Service, group: &GroupSpec) {
        if !group.spec.needs.is_empty() {
            let after = condition("service_started");
            service.depends_on.insert(self.gateway.clone(), after);
        }
        for need in &group.spec.needs {
            match need {
                Need::Resource { name, .. } => {
                    if let Some((key, until)) = self.resources.get(name) {
                        service.depends_on.insert(key.clone(), condition(until));
                    }
                }
                Need::Service { name } => {
                    let needed = self.asked.desired.services.get(name);
                    let until = match needed {
                        Some(needed) if needed.is_job() => "service_completed_successfully",
                        Some(needed)
                            if matches!(
                                needed.spec.service.health.ready,
                                Some(Check::Command { .. })
                            ) =>
                        {
                            "service_healthy"
                        }
                        _ => "service_started",
                    };
                    for key in self.keys.get(name).into_iter().flatten() {
                        service.depends_on.insert(key.clone(), condition(until));
                    }
                }
            }
        }
    }
}
