//! `docker info`.

use crate::client::Query;
use crate::error::Error;
use crate::format::human;
use crate::format::template::{Data, Template};
use crate::{Invocation, VERSION, terminal};
use api::system::Info;
use serde_json::{Value, json};
use std::fmt::Write;

/// `docker info`.
pub(crate) async fn info(call: Invocation) -> Result<u8, Error> {
    let format = match call.values.text("format") {
        "json" => "{{json .}}",
        text => text,
    };
    let template = Template::parse(&format.replace("\\t", "\t").replace("\\n", "\n"));
    let template =
        template.map_err(|why| Error::Plain { message: format!("template parsing error: {why}"), code: 64 })?;
    let debug = call.global.on("debug");
    let client = call.client()?;
    if !format.is_empty() {
        let mut value: Value = client.get("/info", &Query::new()).await?;
        if let Value::Object(members) = &mut value {
            members.insert(
                "ClientInfo".into(),
                json!({"Debug": debug, "Version": VERSION, "Os": "linux", "Context": "default"}),
            );
        }
        let text = template.execute(&Data::row(&value, None, "system.dockerInfo")).map_err(|why| {
            terminal::print("\n");
            Error::plain(why)
        })?;
        terminal::print(&format!("{text}\n"));
        return Ok(0);
    }
    terminal::print(&format!(
        "Client:\n Version:    {VERSION}\n Context:    default\n Debug Mode: {debug}\n\nServer:\n"
    ));
    let info: Info = client.get("/info", &Query::new()).await?;
    let mut text = Text(String::new());
    counts(&mut text, &info);
    plugins(&mut text, &info);
    security(&mut text, &info);
    host(&mut text, &info);
    registries(&mut text, &info);
    terminal::print(&text.0);
    for warning in info.warnings.unwrap_or_default() {
        terminal::print_error(&format!("{warning}\n"));
    }
    Ok(0)
}

/// Lines of `Name: value`, indented by level.
struct Text(String);

impl Text {
    fn line(&mut self, level: usize, text: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{}{text}", " ".repeat(level));
    }

    /// A line that is left out when there is nothing to say.
    fn named(&mut self, level: usize, name: &str, value: &str) {
        if !value.is_empty() {
            self.line(level, format_args!("{name}: {value}"));
        }
    }
}

fn counts(text: &mut Text, info: &Info) {
    text.line(1, format_args!("Containers: {}", info.containers));
    text.line(1, format_args!(" Running: {}", info.containers_running));
    text.line(1, format_args!(" Paused: {}", info.containers_paused));
    text.line(1, format_args!(" Stopped: {}", info.containers_stopped));
    text.line(1, format_args!("Images: {}", info.images));
    text.named(1, "Server Version", &info.server_version);
    text.named(1, "Storage Driver", &info.driver);
    for [name, value] in info.driver_status.iter().flatten() {
        text.line(2, format_args!("{name}: {value}"));
    }
    text.named(1, "Logging Driver", &info.logging_driver);
    text.named(1, "Cgroup Driver", &info.cgroup_driver);
    text.named(1, "Cgroup Version", &info.cgroup_version);
}

fn plugins(text: &mut Text, info: &Info) {
    text.line(1, "Plugins:");
    text.line(2, format_args!("Volume: {}", info.plugins.volume.join(" ")));
    text.line(2, format_args!("Network: {}", info.plugins.network.join(" ")));
    if let Some(authorization) = info.plugins.authorization.as_ref().filter(|list| !list.is_empty()) {
        text.line(2, format_args!("Authorization: {}", authorization.join(" ")));
    }
    text.line(2, format_args!("Log: {}", info.plugins.log.join(" ")));
    if !info.cdi_spec_dirs.is_empty() {
        text.line(1, "CDI spec directories:");
        for directory in &info.cdi_spec_dirs {
            text.line(2, directory);
        }
    }
    text.line(1, format_args!("Swarm: {}", info.swarm.local_node_state));
    if !info.runtimes.is_empty() {
        let names: Vec<&str> = info.runtimes.keys().map(String::as_str).collect();
        text.line(1, format_args!("Runtimes: {}", names.join(" ")));
        text.line(1, format_args!("Default Runtime: {}", info.default_runtime));
    }
    text.line(1, format_args!("Init Binary: {}", info.init_binary));
    for (name, commit) in
        [("containerd", &info.containerd_commit), ("runc", &info.runc_commit), ("init", &info.init_commit)]
    {
        text.line(1, format_args!("{name} version: {}", commit.id));
    }
}

fn security(text: &mut Text, info: &Info) {
    if info.security_options.is_empty() {
        return;
    }
    text.line(1, "Security Options:");
    for option in &info.security_options {
        for pair in option.split(',') {
            let (key, value) = pair.split_once('=').unwrap_or(("name", pair));
            match key {
                "name" => text.line(2, value),
                key => text.line(3, format_args!("{}: {value}", capital(key))),
            }
        }
    }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn host(text: &mut Text, info: &Info) {
    text.named(1, "Kernel Version", &info.kernel_version);
    text.named(1, "Operating System", &info.operating_system);
    text.named(1, "OSType", &info.os_type);
    text.named(1, "Architecture", &info.architecture);
    text.line(1, format_args!("CPUs: {}", info.n_cpu));
    #[allow(clippy::cast_precision_loss)] // four digits are shown
    text.line(1, format_args!("Total Memory: {}", human::binary_size(info.mem_total as f64)));
    text.named(1, "Name", &info.name);
    text.named(1, "ID", &info.id);
    text.named(1, "Docker Root Dir", &info.docker_root_dir);
    text.line(1, format_args!("Debug Mode: {}", info.debug));
    if info.debug {
        text.line(2, format_args!("File Descriptors: {}", info.n_fd));
        text.line(2, format_args!("Goroutines: {}", info.n_goroutines));
        text.line(2, format_args!("System Time: {}", info.system_time));
        text.line(2, format_args!("EventsListeners: {}", info.n_events_listener));
    }
    text.named(1, "HTTP Proxy", &info.http_proxy);
    text.named(1, "HTTPS Proxy", &info.https_proxy);
    text.named(1, "No Proxy", &info.no_proxy);
    if !info.labels.is_empty() {
        text.line(1, "Labels:");
        for label in &info.labels {
            text.line(2, label);
        }
    }
    text.line(1, format_args!("Experimental: {}", info.experimental_build));
}

fn registries(text: &mut Text, info: &Info) {
    if let Some(config) = &info.registry_config {
        let insecure = config.index_configs.values().filter(|index| !index.secure).map(|index| index.name.as_str());
        let all: Vec<&str> = insecure.chain(config.insecure_registry_cidrs.iter().map(String::as_str)).collect();
        if !all.is_empty() {
            text.line(1, "Insecure Registries:");
            for registry in all {
                text.line(2, registry);
            }
        }
        if let Some(mirrors) = config.mirrors.as_ref().filter(|mirrors| !mirrors.is_empty()) {
            text.line(1, "Registry Mirrors:");
            for mirror in mirrors {
                text.line(2, mirror);
            }
        }
    }
    text.line(1, format_args!("Live Restore Enabled: {}", info.live_restore_enabled));
    text.named(1, "Product License", &info.product_license);
    if !info.default_address_pools.is_empty() {
        text.line(1, "Default Address Pools:");
        for pool in &info.default_address_pools {
            text.line(2, format_args!("Base: {}, Size: {}", pool.base, pool.size));
        }
    }
    if let Some(firewall) = &info.firewall_backend {
        text.line(1, format_args!("Firewall Backend: {}", firewall.driver));
        for [name, value] in &firewall.info {
            text.line(2, format_args!("{name}: {value}"));
        }
    }
    text.line(0, "");
}
