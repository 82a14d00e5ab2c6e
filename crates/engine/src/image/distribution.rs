//! What a name is in its registry, without anything of it being pulled: `docker buildx` and `docker service` ask for it.

use api::auth::AuthConfig;
use api::image::DistributionInspect;
use oci::Reference;

use super::progress;
use super::pull::credentials;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

impl Engine {
    /// Asks the registry of a name for its manifest.
    pub async fn image_distribution(&self, name: &str, auth: &AuthConfig) -> Result<DistributionInspect> {
        if oci::reference::is_identifier(name) {
            return Err(Error::system("no manifest found for full image ID"));
        }
        let reference = Reference::parse_normalized(name).map_err(|error| Error::invalid(error.to_string()))?;
        let inspected = self.registry.inspect(&reference, &credentials(auth)).await.map_err(failure)?;
        Ok(DistributionInspect { descriptor: inspected.descriptor, platforms: inspected.platforms })
    }
}

/// Here the status is the registry's own, as in Docker.
fn failure(error: registry::Error) -> Error {
    let code = match &error {
        registry::Error::Registry(errors) => errors.first().map_or("", |first| first.code.as_str()),
        _ => "",
    };
    let kind = match code {
        "UNAUTHORIZED" => Kind::Unauthorized,
        "DENIED" => Kind::Forbidden,
        "MANIFEST_UNKNOWN" | "NAME_UNKNOWN" => Kind::NotFound,
        _ => return progress::failure(error),
    };
    Error::new(kind, error.to_string())
}
