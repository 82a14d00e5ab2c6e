//! `stop restart kill pause unpause wait rm rename update`: changes to containers that exist.

use super::together;
use crate::client::{Body, Client, Query, encode};
use crate::error::Error;
use crate::options::host;
use crate::{Invocation, terminal};
use api::container::{UpdateConfig, UpdateResponse, WaitResponse};
use hyper::Method;

/// Does something to every named container; the name is printed when it is done, failures are reported together at the end.
async fn for_each<'a, F>(names: &'a [String], operation: impl Fn(&'a String) -> F) -> Result<u8, Error>
where
    F: Future<Output = Result<(), Error>> + 'a,
{
    let mut failures = Vec::new();
    for (name, result) in names.iter().zip(together::each(names, operation).await) {
        match result {
            Ok(()) => terminal::print(&format!("{name}\n")),
            Err(error) => failures.push(error.to_string()),
        }
    }
    if failures.is_empty() { Ok(0) } else { Err(Error::joined(&failures)) }
}

fn path(name: &str, verb: &str) -> String {
    format!("/containers/{}/{verb}", encode(name))
}

/// `docker stop`.
pub(crate) async fn stop(call: Invocation) -> Result<u8, Error> {
    with_timeout(call, "stop").await
}

/// `docker restart`.
pub(crate) async fn restart(call: Invocation) -> Result<u8, Error> {
    with_timeout(call, "restart").await
}

async fn with_timeout(call: Invocation, verb: &str) -> Result<u8, Error> {
    let client = call.client()?;
    let mut query = Query::new().with_text("signal", call.values.text("signal"));
    if let Some(seconds) = call.values.last("timeout") {
        query = query.with("t", seconds);
    }
    for_each(&call.words, |name| {
        let (client, query) = (&client, &query);
        async move { client.post(&path(name, verb), query).await }
    })
    .await
}

/// `docker kill`.
pub(crate) async fn kill(call: Invocation) -> Result<u8, Error> {
    let client = call.client()?;
    let query = Query::new().with_text("signal", call.values.text("signal"));
    for_each(&call.words, |name| {
        let (client, query) = (&client, &query);
        async move { client.post(&path(name, "kill"), query).await }
    })
    .await
}

/// `docker pause`.
pub(crate) async fn pause(call: Invocation) -> Result<u8, Error> {
    plain(call, "pause").await
}

/// `docker unpause`.
pub(crate) async fn unpause(call: Invocation) -> Result<u8, Error> {
    plain(call, "unpause").await
}

async fn plain(call: Invocation, verb: &str) -> Result<u8, Error> {
    let client = call.client()?;
    for_each(&call.words, |name| {
        let client = &client;
        async move { client.post(&path(name, verb), &Query::new()).await }
    })
    .await
}

/// `docker wait`: prints exit codes in the order of the names.
pub(crate) async fn wait(call: Invocation) -> Result<u8, Error> {
    let client = call.client()?;
    let mut failures = Vec::new();
    for name in &call.words {
        let result = match client.send(Method::POST, &path(name, "wait"), &Query::new(), Body::empty, &[]).await {
            Ok(answer) => answer.json::<WaitResponse>().await,
            Err(error) => Err(error),
        };
        match result {
            Ok(WaitResponse { error: Some(error), .. }) => failures.push(error.message),
            Ok(answer) => terminal::print(&format!("{}\n", answer.status_code)),
            Err(error) => failures.push(error.to_string()),
        }
    }
    if failures.is_empty() { Ok(0) } else { Err(Error::joined(&failures)) }
}

/// `docker rm`.
pub(crate) async fn rm(call: Invocation) -> Result<u8, Error> {
    let client = call.client()?;
    let force = call.values.on("force");
    let query = Query::new()
        .with_flag("v", call.values.on("volumes"))
        .with_flag("link", call.values.on("link"))
        .with_flag("force", force);
    let names: Vec<&str> = call.words.iter().map(|name| name.trim_matches('/')).collect();
    let results = together::each(&names, |name| remove(&client, name, &query)).await;
    let mut failures = Vec::new();
    for (name, result) in call.words.iter().zip(results) {
        match result {
            Ok(()) => terminal::print(&format!("{name}\n")),
            // Removing by force what is not there is no failure.
            Err(error) if force && error.status() == 404 => terminal::print_error(&format!("{error}\n")),
            Err(error) => failures.push(error.to_string()),
        }
    }
    if failures.is_empty() { Ok(0) } else { Err(Error::joined(&failures)) }
}

async fn remove(client: &Client, name: &str, query: &Query) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::plain("container name cannot be empty"));
    }
    client.delete(&format!("/containers/{}", encode(name)), query).await?.finish().await
}

/// `docker rename`.
pub(crate) async fn rename(call: Invocation) -> Result<u8, Error> {
    let (old, new) = (call.words[0].trim(), call.words[1].trim());
    if old.is_empty() || new.is_empty() {
        return Err(Error::plain("Error: Neither old nor new names may be empty"));
    }
    let client = call.client()?;
    if let Err(error) = client.post(&path(old, "rename"), &Query::new().with("name", new)).await {
        terminal::print_error(&format!("{error}\n"));
        return Err(Error::plain(format!("Error: failed to rename container named {old}")));
    }
    Ok(0)
}

/// `docker update`.
pub(crate) async fn update(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let flags = [
        "blkio-weight",
        "cpu-period",
        "cpu-quota",
        "cpu-rt-period",
        "cpu-rt-runtime",
        "cpu-shares",
        "cpus",
        "cpuset-cpus",
        "cpuset-mems",
        "memory",
        "memory-reservation",
        "memory-swap",
        "pids-limit",
        "restart",
    ];
    if !flags.iter().any(|flag| values.is_set(flag)) {
        return Err(Error::plain("you must provide one or more flags when using this command"));
    }
    let restart_policy = host::restart(values.text("restart")).map_err(Error::plain)?;
    let body = UpdateConfig {
        restart_policy,
        cpu_shares: values.int("cpu-shares"),
        memory: values.bytes("memory"),
        nano_cpus: values.processors("cpus"),
        blkio_weight: u16::try_from(values.int("blkio-weight")).unwrap_or_default(),
        cpu_period: values.int("cpu-period"),
        cpu_quota: values.int("cpu-quota"),
        cpu_realtime_period: values.int("cpu-rt-period"),
        cpu_realtime_runtime: values.int("cpu-rt-runtime"),
        cpuset_cpus: values.text("cpuset-cpus").to_owned(),
        cpuset_mems: values.text("cpuset-mems").to_owned(),
        memory_reservation: values.bytes("memory-reservation"),
        memory_swap: values.bytes("memory-swap"),
        pids_limit: values.is_set("pids-limit").then(|| values.int("pids-limit")),
        ..UpdateConfig::default()
    };
    let client = call.client()?;
    let (mut warnings, mut failures) = (Vec::new(), Vec::new());
    for name in &call.words {
        match client.post_json::<UpdateResponse>(&path(name, "update"), &Query::new(), &body).await {
            Ok(answer) => {
                terminal::print(&format!("{name}\n"));
                warnings.extend(answer.warnings.unwrap_or_default());
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    if !warnings.is_empty() {
        terminal::print(&format!("{}\n", warnings.join("\n")));
    }
    if failures.is_empty() { Ok(0) } else { Err(Error::joined(&failures)) }
}
