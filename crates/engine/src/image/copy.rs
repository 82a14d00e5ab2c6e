//! `gantry image copy`: from one registry to another, without a trace here.

use std::collections::BTreeMap;

use api::auth::AuthConfig;
use oci::Platform;
use oci::reference::Reference;
use registry::{Between, Credentials};

use super::CopyOptions;
use super::progress::{self, ProgressStream};
use super::pull::credentials;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::policy::Operation;

/// What Docker's configuration calls docker.io.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

impl Engine {
    /// Copies an image, or an index with everything below it, as it is.
    pub async fn image_copy(&self, options: CopyOptions) -> Result<ProgressStream> {
        let name = |text: &str| Reference::parse_normalized(text).map_err(|error| Error::invalid(error.to_string()));
        let (source, destination) = (name(&options.from)?, name(&options.to)?);
        let platform = match options.platform.as_str() {
            "" => None,
            text => Some(Platform::parse(text).map_err(|error| Error::invalid(error.to_string()))?),
        };
        self.allow(Operation::Pull, &source).await?;
        self.allow(Operation::Push, &destination).await?;
        let engine = self.arc();
        progress::run(move |lines| async move {
            let for_source = for_registry(&options.auths, &source);
            let for_destination = for_registry(&options.auths, &destination);
            let between = Between {
                source: &source,
                destination: &destination,
                platform: platform.as_ref(),
                source_credentials: &for_source,
                destination_credentials: &for_destination,
            };
            let registry = &engine.registry;
            progress::relay(&lines, |sender| async move { registry.copy(between, &sender).await }).await.map(drop)
        })
        .await
    }
}

/// The credentials for the registry of a name.
fn for_registry(auths: &BTreeMap<String, AuthConfig>, name: &Reference) -> Credentials {
    let key = if name.domain() == oci::reference::DEFAULT_DOMAIN { DOCKER_HUB } else { name.domain() };
    auths.get(key).or_else(|| auths.get(name.domain())).map(credentials).unwrap_or_default()
}
