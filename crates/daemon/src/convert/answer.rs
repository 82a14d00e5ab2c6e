//! Answers of the latest version taken back to what an older one showed. They are edited as JSON: most rules remove a member
//! that came later, some bring one back that went.

use api::Version;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::failure::{Failure, Outcome};

/// A value as JSON, for editing.
fn value(of: &impl Serialize) -> Outcome<Value> {
    serde_json::to_value(of).map_err(|error| Failure::new(500, error.to_string()))
}

/// Takes members out of an object.
fn remove(object: &mut Value, keys: &[&str]) {
    if let Some(members) = object.as_object_mut() {
        members.retain(|key, _| !keys.contains(&key.as_str()));
    }
}

/// Puts a member into an object unless it is there.
fn default(object: &mut Value, key: &str, value: Value) {
    if let Some(members) = object.as_object_mut() {
        members.entry(key).or_insert(value);
    }
}

/// Answer to container inspect.
pub(crate) fn inspect(of: &api::container::InspectResponse, version: Version) -> Outcome<Value> {
    let mut answer = value(of)?;
    if version.before(48) {
        remove(&mut answer, &["ImageManifestDescriptor"]);
    }
    endpoints(&mut answer["NetworkSettings"]["Networks"], version);
    if version.before(45) {
        let (id, host) = (of.id.chars().take(12).collect::<String>(), of.config.hostname.clone());
        for (name, endpoint) in answer["NetworkSettings"]["Networks"].as_object_mut().into_iter().flatten() {
            if !matches!(name.as_str(), "bridge" | "host" | "none") {
                aliases(endpoint, [&id, &host]);
            }
        }
    }
    Ok(answer)
}

/// Since 1.45 the short id and the host name are DNS names only; before they were aliases.
fn aliases(endpoint: &mut Value, names: [&str; 2]) {
    let mut all: Vec<Value> = endpoint["Aliases"].as_array().cloned().unwrap_or_default();
    for name in names.map(Value::from) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    endpoint["Aliases"] = all.into();
}

/// Fields of a container's endpoints that came with a version.
fn endpoints(networks: &mut Value, version: Version) {
    for endpoint in networks.as_object_mut().into_iter().flat_map(Map::values_mut) {
        if version.before(48) {
            remove(endpoint, &["GwPriority"]);
        }
    }
}

/// Answer to container list.
pub(crate) fn containers(of: &[api::container::Summary], version: Version) -> Outcome<Value> {
    let mut answer = value(&of)?;
    for row in answer.as_array_mut().into_iter().flatten() {
        container_row(row, version);
    }
    Ok(answer)
}

fn container_row(row: &mut Value, version: Version) {
    if version.before(48) {
        remove(row, &["ImageManifestDescriptor"]);
    }
    if version.before(46) {
        remove(&mut row["HostConfig"], &["Annotations"]);
    }
    endpoints(&mut row["NetworkSettings"]["Networks"], version);
}

/// Members of a container's configuration that images cannot set; shown empty before 1.50.
fn whole_config(config: &mut Value) {
    for (key, empty) in [
        ("Hostname", json!("")),
        ("Domainname", json!("")),
        ("User", json!("")),
        ("AttachStdin", json!(false)),
        ("AttachStdout", json!(false)),
        ("AttachStderr", json!(false)),
        ("Tty", json!(false)),
        ("OpenStdin", json!(false)),
        ("StdinOnce", json!(false)),
        ("Env", Value::Null),
        ("Cmd", Value::Null),
        ("Image", json!("")),
        ("Volumes", Value::Null),
        ("WorkingDir", json!("")),
        ("Entrypoint", Value::Null),
        ("OnBuild", Value::Null),
        ("Labels", Value::Null),
    ] {
        default(config, key, empty);
    }
}

/// Answer to image inspect.
pub(crate) fn image(of: &api::image::InspectResponse, version: Version) -> Outcome<Value> {
    let mut answer = value(of)?;
    if version.before(50) {
        if answer["Config"].is_null() {
            answer["Config"] = json!({});
        }
        whole_config(&mut answer["Config"]);
    }
    if version.before(48) {
        remove(&mut answer, &["Descriptor", "Manifests"]);
    }
    if version.before(45) {
        let mut empty = json!({});
        whole_config(&mut empty);
        default(&mut answer, "ContainerConfig", empty);
    }
    if version.before(44) {
        default(&mut answer, "VirtualSize", json!(of.size));
        default(&mut answer, "Created", json!(api::time::ZERO));
    }
    Ok(answer)
}

/// Answer to image list.
pub(crate) fn images(of: &[api::image::Summary], version: Version) -> Outcome<Value> {
    let mut answer = value(&of)?;
    for row in answer.as_array_mut().into_iter().flatten() {
        image_row(row, version);
    }
    Ok(answer)
}

fn image_row(row: &mut Value, version: Version) {
    if version.before(48) {
        remove(row, &["Descriptor", "Manifests"]);
    }
    if version.before(44) {
        let size = row["Size"].clone();
        default(row, "VirtualSize", size);
    }
    if version.before(43) {
        null_for_no_names(row);
        if row["RepoTags"].is_null() && row["RepoDigests"].is_null() {
            row["RepoTags"] = json!(["<none>:<none>"]);
            row["RepoDigests"] = json!(["<none>@<none>"]);
        }
    }
}

/// Lists of names are `[]` in the list of images since 1.43 only, and never in disk usage.
fn null_for_no_names(row: &mut Value) {
    for key in ["RepoTags", "RepoDigests"] {
        if row[key].as_array().is_some_and(Vec::is_empty) {
            row[key] = Value::Null;
        }
    }
}

/// Answer to network list and inspect.
pub(crate) fn network(of: &api::network::Network, version: Version) -> Outcome<Value> {
    let mut answer = value(of)?;
    if version.before(48) {
        remove(&mut answer, &["EnableIPv4"]);
    }
    Ok(answer)
}

/// Answer to info.
pub(crate) fn info(of: &api::system::Info, version: Version) -> Outcome<Value> {
    let mut answer = value(of)?;
    if version.before(50) {
        for (key, file) in [("BridgeNfIptables", "iptables"), ("BridgeNfIp6tables", "ip6tables")] {
            let text = std::fs::read_to_string(format!("/proc/sys/net/bridge/bridge-nf-call-{file}"));
            default(&mut answer, key, json!(text.is_ok_and(|text| text.trim() == "1")));
        }
    }
    if version.before(49) {
        remove(&mut answer, &["FirewallBackend"]);
        for commit in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
            let id = answer[commit]["ID"].clone();
            default(&mut answer[commit], "Expected", id);
        }
    }
    if version.before(47) {
        for key in ["AllowNondistributableArtifactsCIDRs", "AllowNondistributableArtifactsHostnames"] {
            default(&mut answer["RegistryConfig"], key, Value::Null);
        }
    }
    if version.before(46) {
        remove(&mut answer, &["Containerd"]);
    }
    if version.before(42) {
        let limit = std::path::Path::new("/sys/fs/cgroup/memory/memory.kmem.limit_in_bytes").exists();
        default(&mut answer, "KernelMemory", json!(limit));
    }
    if version.before(44) {
        for runtime in answer["Runtimes"].as_object_mut().into_iter().flat_map(Map::values_mut) {
            remove(runtime, &["status"]);
        }
    }
    if version.before(25) {
        default(&mut answer, "ExecutionDriver", json!("<not supported>"));
        let options = answer["SecurityOptions"].as_array().cloned().unwrap_or_default();
        answer["SecurityOptions"] = options.iter().map(option_name).collect::<Vec<_>>().into();
    }
    Ok(answer)
}

/// `name=seccomp,profile=builtin` was `seccomp`.
fn option_name(option: &Value) -> Value {
    let text = option.as_str().unwrap_or_default();
    let name = text.split(',').find_map(|part| part.strip_prefix("name="));
    name.unwrap_or(text).into()
}

/// Answer to disk usage.
pub(crate) fn disk_usage(of: &api::system::DiskUsage, version: Version) -> Outcome<Value> {
    let mut answer = value(of)?;
    for row in answer["Containers"].as_array_mut().into_iter().flatten() {
        container_row(row, version);
    }
    for row in answer["Images"].as_array_mut().into_iter().flatten() {
        image_row(row, version);
        null_for_no_names(row);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_s_config_is_whole_before_1_50() {
        let image_of = |minor| image(&api::image::InspectResponse::default(), Version::new(1, minor)).unwrap();
        assert!(image_of(50)["Config"].is_null());
        assert_eq!(image_of(49)["Config"]["Hostname"], "");
        assert!(image_of(49)["Config"].as_object().unwrap().contains_key("Env"));
        assert!(image_of(45).get("ContainerConfig").is_none());
        assert_eq!(image_of(44)["ContainerConfig"]["Tty"], false);
        assert_eq!(image_of(43)["VirtualSize"], 0);
    }

    #[test]
    fn later_members_are_taken_out() {
        let mut container = api::container::InspectResponse { id: "0123456789abcdef".into(), ..Default::default() };
        container.network_settings.networks.insert("own".into(), api::network::EndpointSettings::default());
        let endpoint =
            |minor| inspect(&container, Version::new(1, minor)).unwrap()["NetworkSettings"]["Networks"]["own"].clone();
        assert_eq!(endpoint(48)["GwPriority"], 0);
        assert!(endpoint(47).get("GwPriority").is_none());
        assert!(endpoint(45)["Aliases"].is_null());
        assert_eq!(endpoint(44)["Aliases"], json!(["0123456789ab", ""]));
    }

    #[test]
    fn info_shows_what_went() {
        let mut of = api::system::Info { registry_config: Some(Default::default()), ..Default::default() };
        of.security_options = vec!["name=seccomp,profile=builtin".into()];
        let info_of = |minor| info(&of, Version::new(1, minor)).unwrap();
        assert!(info_of(50).get("BridgeNfIptables").is_none());
        assert!(info_of(49)["BridgeNfIptables"].is_boolean());
        assert_eq!(info_of(48)["RuncCommit"]["Expected"], "");
        assert!(info_of(46)["RegistryConfig"].as_object().unwrap().contains_key("AllowNondistributableArtifactsCIDRs"));
        assert_eq!(info_of(24)["SecurityOptions"], json!(["seccomp"]));
    }
}
