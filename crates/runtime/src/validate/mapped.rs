//! In a user namespace that is made for it, a container can only name ids that are mapped.

use oci::spec::{IdMapping, Linux, Process, Spec};

use super::invalid;
use crate::error::Result;

fn is_mapped(map: &[IdMapping], id: u32) -> bool {
    map.iter().any(|range| id >= range.container_id && id - range.container_id < range.size)
}

/// All ids of a configuration.
pub(super) fn ids(spec: &Spec, linux: &Linux) -> Result<()> {
    if linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty() {
        return Ok(());
    }
    for (map, field) in [(&linux.uid_mappings, "linux.uidMappings"), (&linux.gid_mappings, "linux.gidMappings")] {
        if !is_mapped(map, 0) {
            return invalid(field, "id 0 of the container must be mapped");
        }
    }
    let Some(process) = &spec.process else { return Ok(()) };
    user(process, linux)?;
    for (index, mount) in spec.mounts.iter().enumerate() {
        for option in &mount.options {
            let (map, id) = match option.split_once('=') {
                Some(("uid", id)) => (&linux.uid_mappings, id),
                Some(("gid", id)) => (&linux.gid_mappings, id),
                _ => continue,
            };
            if id.parse().is_ok_and(|id| !is_mapped(map, id)) {
                let text = format!("{:?}: option {option:?} names an id that is not mapped", mount.destination);
                return invalid(format!("mounts[{index}].options"), text);
            }
        }
    }
    Ok(())
}

/// The user of a process, where it can be told: the maps of a user namespace that is joined are not known here.
pub(crate) fn user(process: &Process, linux: &Linux) -> Result<()> {
    let check = |map: &[IdMapping], id: u32, field: &str| {
        if map.is_empty() || is_mapped(map, id) {
            Ok(())
        } else {
            invalid(format!("process.user.{field}"), format!("{id} is not mapped in the user namespace"))
        }
    };
    let user = &process.user;
    check(&linux.uid_mappings, user.uid, "uid")?;
    check(&linux.gid_mappings, user.gid, "gid")?;
    user.additional_gids.iter().try_for_each(|gid| check(&linux.gid_mappings, *gid, "additionalGids"))
}
