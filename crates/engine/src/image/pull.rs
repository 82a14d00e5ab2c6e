//! `docker pull` and `docker login`.

use api::auth::{AuthConfig, AuthResponse};
use oci::reference::Reference;
use oci::{ImageConfig, Platform};
use registry::Credentials;

use super::progress::{self, Lines, ProgressStream};
use super::{PullOptions, hello};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::policy::Operation;

impl Engine {
    /// Pulls an image, or with neither tag nor digest all tags of a repository.
    pub async fn image_pull(&self, options: PullOptions) -> Result<ProgressStream> {
        let reference = reference_of(&options.from_image, &options.tag)?;
        let platform = match options.platform.as_str() {
            "" => None,
            text => Some(Platform::parse(text).map_err(|error| Error::invalid(error.to_string()))?),
        };
        self.allow(Operation::Pull, &reference).await?;
        let engine = self.arc();
        progress::run(move |lines| async move {
            let pull = Pull {
                engine: &engine,
                credentials: credentials(&options.auth),
                platform,
                wanted: &options.platform,
                all_platforms: options.all_platforms,
                lines: &lines,
            };
            pull.run(&reference).await
        })
        .await
    }

    /// Checks credentials at a registry.
    pub async fn registry_auth(&self, auth: AuthConfig) -> Result<AuthResponse> {
        let server = auth.serveraddress.clone();
        let token = self.registry.login(&server, credentials(&auth)).await.map_err(progress::failure)?;
        Ok(AuthResponse { identity_token: token.unwrap_or_default(), status: "Login Succeeded".into() })
    }

    /// Says that something happened to an image: its labels and this name are added.
    pub(crate) async fn image_event(&self, action: &str, id: &str, name: &str) {
        let (store, wanted) = (self.store.clone(), id.to_owned());
        let labels = self.blocking(move || {
            let id = store.image_resolve(&wanted)?;
            let config = ImageConfig::parse(&store.image_config_bytes(&id)?).ok().and_then(|image| image.config);
            Ok(config.and_then(|config| config.labels).unwrap_or_default())
        });
        let mut attributes = labels.await.unwrap_or_default();
        attributes.insert("name".to_owned(), name.to_owned());
        self.events.emit("image", action, id, attributes);
    }
}

/// What a client's credentials are for the registry client.
pub(super) fn credentials(auth: &AuthConfig) -> Credentials {
    if !auth.registrytoken.is_empty() {
        Credentials::RegistryToken(auth.registrytoken.clone())
    } else if !auth.identitytoken.is_empty() {
        Credentials::IdentityToken(auth.identitytoken.clone())
    } else if auth.username.is_empty() {
        Credentials::Anonymous
    } else {
        Credentials::Basic { username: auth.username.clone(), password: auth.password.clone() }
    }
}

/// A name, and a tag or digest that was given beside it. Neither is added when there is none.
fn reference_of(name: &str, tag: &str) -> Result<Reference> {
    let invalid = |error: oci::reference::ReferenceError| Error::invalid(error.to_string());
    let reference = Reference::parse_normalized(name.trim_end_matches(':')).map_err(invalid)?;
    if tag.is_empty() {
        return Ok(reference);
    }
    match tag.parse() {
        Ok(digest) => Ok(reference.with_digest(digest)),
        Err(_) => reference.with_tag(tag).map_err(|_| Error::invalid("invalid tag format")),
    }
}

struct Pull<'a> {
    engine: &'a Engine,
    credentials: Credentials,
    platform: Option<Platform>,
    /// The platform as the client wrote it.
    wanted: &'a str,
    all_platforms: bool,
    lines: &'a Lines,
}

impl Pull<'_> {
    async fn run(&self, reference: &Reference) -> Result<()> {
        if hello::is_meant(reference) {
            return self.hello().await;
        }
        let tags = if reference.is_name_only() {
            let tags = self.engine.registry.tags(reference, &self.credentials).await.map_err(progress::failure)?;
            let with_tag = |tag: &String| reference.with_tag(tag).map_err(|error| Error::invalid(error.to_string()));
            tags.iter().map(with_tag).collect::<Result<Vec<_>>>()?
        } else {
            vec![reference.clone()]
        };
        let mut downloaded = false;
        for tag in &tags {
            downloaded |= self.one(tag).await?;
        }
        self.status(reference, !downloaded).await?;
        for tag in tags.iter().filter(|_| !self.wanted.is_empty()) {
            self.check_platform(tag).await?;
        }
        Ok(())
    }

    /// Pulls one tag; says whether that changed anything.
    async fn one(&self, reference: &Reference) -> Result<bool> {
        let engine = self.engine;
        let platform = self.platform.as_ref();
        let pulled = progress::relay(self.lines, |sender| async move {
            let (registry, credentials, store) = (&engine.registry, &self.credentials, &engine.store);
            if self.all_platforms {
                return registry.pull_all_platforms(reference, platform, credentials, store, &sender).await;
            }
            registry.pull(reference, platform, credentials, store, &sender).await
        })
        .await?;
        engine.image_event("pull", &reference.familiar(), &reference.familiar_name()).await;
        engine.has_grown();
        Ok(!pulled.up_to_date)
    }

    async fn status(&self, reference: &Reference, up_to_date: bool) -> Result<()> {
        let what = if up_to_date { "Image is up to date for" } else { "Downloaded newer image for" };
        self.lines.status("", format!("Status: {what} {}", reference.familiar())).await
    }

    /// An image without an index is pulled whatever it is for. Docker complains afterwards.
    async fn check_platform(&self, reference: &Reference) -> Result<()> {
        let (store, name) = (self.engine.store.clone(), reference.familiar());
        let config = self.engine.blocking(move || {
            let bytes = store.image_config_bytes(&store.image_resolve(&name)?)?;
            ImageConfig::parse(&bytes).map_err(|error| Error::caused(Kind::System, name, error))
        });
        crate::platform::matches(self.wanted, &config.await?, &reference.familiar())
    }

    /// The image that comes with the program.
    async fn hello(&self) -> Result<()> {
        let reference = hello::reference();
        self.lines.status(hello::TAG, format!("Pulling from {}", reference.path())).await?;
        let store = self.engine.store.clone();
        let made = self.engine.blocking(move || hello::create(&store)).await?;
        self.lines.status("", format!("Digest: {}", made.digest)).await?;
        self.engine.image_event("pull", &reference.familiar(), &reference.familiar_name()).await;
        self.status(&reference, made.up_to_date).await?;
        if self.wanted.is_empty() { Ok(()) } else { self.check_platform(&reference).await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pulls() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (name, tag, expected) in [
            ("busybox", "", "docker.io/library/busybox"),
            ("busybox", "1", "docker.io/library/busybox:1"),
            ("busybox:2", "1", "docker.io/library/busybox:1"),
            ("localhost:5000/a", digest.as_str(), &format!("localhost:5000/a@{digest}")),
        ] {
            assert_eq!(reference_of(name, tag).unwrap().to_string(), expected);
        }
        assert_eq!(reference_of("a", "b@c").unwrap_err().message(), "invalid tag format");
        let text = "invalid reference format: repository name (library/Debian) must be lowercase";
        assert_eq!(reference_of("Debian", "x").unwrap_err().message(), text);
    }
}
