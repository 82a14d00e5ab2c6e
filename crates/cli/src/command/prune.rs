//! `container prune`, `image prune`, `volume prune` and `system prune`.

use super::image::removal;
use crate::client::{Body, Client, Query};
use crate::error::Error;
use crate::format::human;
use crate::{Invocation, terminal};
use api::Filters;
use hyper::Method;
use serde::de::DeserializeOwned;

/// What was removed, as text, and the bytes that it took.
struct Pruned {
    text: String,
    reclaimed: u64,
}

async fn post<T: DeserializeOwned>(client: &Client, path: &str, filters: &Filters) -> Result<T, Error> {
    let query = Query::new().with_text("filters", &filters.to_query());
    client.send(Method::POST, path, &query, Body::empty, &[]).await?.json().await
}

fn listed(heading: &str, names: Option<Vec<String>>) -> String {
    let names = names.unwrap_or_default();
    if names.is_empty() {
        return String::new();
    }
    format!("{heading}:\n{}\n\n", names.join("\n"))
}

async fn prune_containers(client: &Client, filters: &Filters) -> Result<Pruned, Error> {
    let answer: api::container::PruneResponse = post(client, "/containers/prune", filters).await?;
    Ok(Pruned { text: listed("Deleted Containers", answer.containers_deleted), reclaimed: answer.space_reclaimed })
}

async fn prune_images(client: &Client, filters: &Filters, all: bool) -> Result<Pruned, Error> {
    let mut filters = filters.clone();
    filters.add("dangling", if all { "false" } else { "true" });
    let answer: api::image::PruneResponse = post(client, "/images/prune", &filters).await?;
    let items = answer.images_deleted.unwrap_or_default();
    let text: String = items
        .iter()
        .map(|item| {
            let line = removal(item);
            // Docker writes these two words in lower case here, and in upper case for `rmi`.
            line.replacen("Untagged", "untagged", 1).replacen("Deleted", "deleted", 1)
        })
        .collect();
    let text = if text.is_empty() { text } else { format!("Deleted Images:\n{text}\n") };
    Ok(Pruned { text, reclaimed: answer.space_reclaimed })
}

async fn prune_volumes(client: &Client, filters: &Filters) -> Result<Pruned, Error> {
    let answer: api::volume::PruneResponse = post(client, "/volumes/prune", filters).await?;
    Ok(Pruned { text: listed("Deleted Volumes", answer.volumes_deleted), reclaimed: answer.space_reclaimed })
}

fn total(pruned: &[Pruned]) -> String {
    let reclaimed: u64 = pruned.iter().map(|pruned| pruned.reclaimed).sum();
    let text: String = pruned.iter().map(|pruned| pruned.text.as_str()).collect();
    format!("{text}Total reclaimed space: {}\n", human::size_precise(i64::try_from(reclaimed).unwrap_or(i64::MAX)))
}

/// Whether to go on: `--force`, or a yes.
fn agreed(call: &Invocation, warning: &str) -> bool {
    call.values.on("force") || terminal::confirm(&format!("{warning}\nAre you sure you want to continue?"))
}

/// Docker's answer to a question that was not answered with yes.
fn cancelled(what: &str) -> Error {
    Error::plain(format!("{what} prune has been cancelled"))
}

/// `docker container prune`.
pub(crate) async fn containers(call: Invocation) -> Result<u8, Error> {
    if !agreed(&call, "WARNING! This will remove all stopped containers.") {
        return Err(cancelled("container"));
    }
    let pruned = prune_containers(&call.client()?, &call.values.filters()).await?;
    terminal::print(&total(&[pruned]));
    Ok(0)
}

/// `docker image prune`.
pub(crate) async fn images(call: Invocation) -> Result<u8, Error> {
    let all = call.values.on("all");
    let warning = if all {
        "WARNING! This will remove all images without at least one container associated to them."
    } else {
        "WARNING! This will remove all dangling images."
    };
    if !agreed(&call, warning) {
        return Err(cancelled("image"));
    }
    let pruned = prune_images(&call.client()?, &call.values.filters(), all).await?;
    terminal::print(&total(&[pruned]));
    Ok(0)
}

/// `docker volume prune`.
pub(crate) async fn volumes(call: Invocation) -> Result<u8, Error> {
    let all = call.values.on("all");
    let warning = if all {
        "WARNING! This will remove all local volumes not used by at least one container."
    } else {
        "WARNING! This will remove anonymous local volumes not used by at least one container."
    };
    let mut filters = call.values.filters();
    if all {
        if filters.contains("all") {
            return Err(Error::plain("conflicting options: cannot specify both --all and --filter all=1"));
        }
        filters.add("all", "true");
    }
    if !agreed(&call, warning) {
        return Err(cancelled("volume"));
    }
    let pruned = prune_volumes(&call.client()?, &filters).await?;
    terminal::print(&total(&[pruned]));
    Ok(0)
}

/// `docker system prune`: containers, then volumes if asked, then networks where the engine has them, then images.
pub(crate) async fn all(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let (all, volumes) = (values.on("all"), values.on("volumes"));
    let filters = values.filters();
    if volumes && filters.contains("until") {
        return Err(Error::plain("ERROR: The \"until\" filter is not supported with \"--volumes\""));
    }
    let mut what = vec!["all stopped containers", "all networks not used by at least one container"];
    if volumes {
        what.push("all anonymous volumes not used by at least one container");
    }
    what.push(if all { "all images without at least one container associated to them" } else { "all dangling images" });
    let mut warning = String::from("WARNING! This will remove:\n");
    for line in what {
        warning.push_str(&format!("  - {line}\n"));
    }
    if !filters.is_empty() {
        warning.push_str("\n  Items to be pruned will be filtered with:\n");
        for filter in values.list("filter") {
            warning.push_str(&format!("  - {filter}\n"));
        }
    }
    if !agreed(&call, &warning) {
        return Err(cancelled("system"));
    }
    let client = call.client()?;
    let mut pruned = vec![prune_containers(&client, &filters).await?];
    let networks: Result<api::network::PruneResponse, Error> = post(&client, "/networks/prune", &filters).await;
    match networks {
        Ok(answer) => pruned.push(Pruned { text: listed("Deleted Networks", answer.networks_deleted), reclaimed: 0 }),
        // An engine without networks of its users has nothing to remove.
        Err(error) if matches!(error.status(), 404 | 501) => {}
        Err(error) => return Err(error),
    }
    if volumes {
        pruned.push(prune_volumes(&client, &filters).await?);
    }
    pruned.push(prune_images(&client, &filters, all).await?);
    terminal::print(&total(&pruned));
    Ok(0)
}
