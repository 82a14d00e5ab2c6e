//! `images history tag rmi commit`.

use crate::client::{Body, Query, encode};
use crate::error::Error;
use crate::format::row::{Listing, Row};
use crate::format::{go, human};
use crate::options::platform;
use crate::{Invocation, terminal};
use api::image::{CommitResponse, DeleteItem, HistoryItem, Summary};
use hyper::Method;
use jiff::Timestamp;
use oci::reference::Reference;

/// What stands where there is no name.
const NONE: &str = "<none>";

/// The listing of images.
fn listing(digests: bool) -> Listing {
    let digest = if digests { "\t{{.Digest}}" } else { "" };
    Listing {
        type_name: "*formatter.imageContext",
        headings: &[
            ("ID", "IMAGE ID"),
            ("Repository", "REPOSITORY"),
            ("Tag", "TAG"),
            ("Digest", "DIGEST"),
            ("CreatedSince", "CREATED"),
            ("CreatedAt", "CREATED AT"),
            ("Size", "SIZE"),
            ("Containers", "CONTAINERS"),
            ("VirtualSize", "SIZE"),
            ("SharedSize", "SHARED SIZE"),
            ("UniqueSize", "UNIQUE SIZE"),
        ],
        default: format!(
            "{{{{.Repository}}}}\t{{{{.Tag}}}}{digest}\t{{{{.ID}}}}\t{{{{.CreatedSince}}}}\t{{{{.Size}}}}"
        ),
        quiet: "{{.ID}}",
    }
}

/// `docker images`.
pub(crate) async fn list(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    if values.on("tree") {
        return Err(Error::plain("--tree is not supported: images of several platforms are not kept as one"));
    }
    let config = call.config();
    let wanted = if values.is_set("format") { values.text("format") } else { config.text("imagesFormat") };
    let wanted = if values.on("quiet") && !values.is_set("format") { "" } else { wanted };
    let digests = values.on("digests");
    let listing = listing(digests);
    let format = listing.format(wanted, values.on("quiet"))?;
    let mut filters = values.filters();
    if let Some(name) = call.words.first() {
        filters.add("reference", name);
    }
    let query = Query::new().with_flag("all", values.on("all")).with_text("filters", &filters.to_query());
    let client = call.client()?.with_headers(config.headers());
    let images: Vec<Summary> = client.get("/images/json", &query).await?;
    let by_digest = digests || wanted.contains(".Digest");
    let rows: Vec<Row> = images.iter().flat_map(|image| rows(image, by_digest, !values.on("no-trunc"))).collect();
    terminal::print(&listing.show(&format, &rows)?);
    Ok(0)
}

/// One image is a row for each of its names.
pub(super) fn rows(image: &Summary, by_digest: bool, short: bool) -> Vec<Row> {
    let names = names(image, by_digest);
    names.into_iter().map(|[repository, tag, digest]| row(image, repository, tag, digest, short)).collect()
}

/// Repository, tag and digest of every row.
fn names(image: &Summary, by_digest: bool) -> Vec<[String; 3]> {
    let split = |name: &str, at: char| name.rsplit_once(at).map(|(name, rest)| (name.to_owned(), rest.to_owned()));
    let tags: Vec<_> =
        image.repo_tags.iter().filter(|tag| *tag != "<none>:<none>").filter_map(|tag| split(tag, ':')).collect();
    let digests: Vec<_> =
        image.repo_digests.iter().filter(|d| *d != "<none>@<none>").filter_map(|d| split(d, '@')).collect();
    let none = || NONE.to_owned();
    let mut names = Vec::new();
    let mut repositories: Vec<&String> = Vec::new();
    for (repository, _) in tags.iter().chain(&digests) {
        if !repositories.contains(&repository) {
            repositories.push(repository);
        }
    }
    repositories.sort();
    for repository in repositories {
        let own_tags: Vec<_> = tags.iter().filter(|(name, _)| name == repository).map(|(_, tag)| tag).collect();
        let own_digests: Vec<_> =
            digests.iter().filter(|(name, _)| name == repository).map(|(_, digest)| digest).collect();
        if !by_digest {
            // Without digests a repository that has no tag is shown once.
            if own_tags.is_empty() {
                names.push([repository.clone(), none(), none()]);
            }
            names.extend(own_tags.into_iter().map(|tag| [repository.clone(), tag.clone(), none()]));
            continue;
        }
        if own_digests.is_empty() {
            names.extend(own_tags.into_iter().map(|tag| [repository.clone(), tag.clone(), none()]));
        } else if own_tags.is_empty() {
            names.extend(own_digests.into_iter().map(|digest| [repository.clone(), none(), digest.clone()]));
        } else {
            for tag in own_tags {
                names.extend(own_digests.iter().map(|digest| [repository.clone(), tag.clone(), (*digest).clone()]));
            }
        }
    }
    if names.is_empty() {
        names.push([none(), none(), none()]);
    }
    names
}

fn row(image: &Summary, repository: String, tag: String, digest: String, short: bool) -> Row {
    let created = Timestamp::from_second(image.created).unwrap_or_default();
    let known = |size: i64| if size == -1 { "N/A".to_owned() } else { human::size_precise(size) };
    let unique = if image.shared_size == -1 || image.size == -1 { -1 } else { image.size - image.shared_size };
    let size = image.virtual_size.filter(|size| *size > 0).unwrap_or(image.size);
    Row::new([
        ("ID", if short { human::short_id(&image.id).to_owned() } else { image.id.clone() }),
        ("Repository", repository),
        ("Tag", tag),
        ("Digest", digest),
        ("CreatedSince", if image.created <= 0 { "N/A".into() } else { human::since(image.created) }),
        ("CreatedAt", human::local(created)),
        ("Size", human::size(image.size)),
        ("Containers", if image.containers == -1 { "N/A".into() } else { image.containers.to_string() }),
        ("VirtualSize", human::size_precise(size)),
        ("SharedSize", known(image.shared_size)),
        ("UniqueSize", known(unique)),
    ])
}

/// `docker history`.
pub(crate) async fn history(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let listing = Listing {
        type_name: "*image.historyContext",
        headings: &[
            ("ID", "IMAGE"),
            ("CreatedSince", "CREATED"),
            ("CreatedAt", "CREATED AT"),
            ("CreatedBy", "CREATED BY"),
            ("Size", "SIZE"),
            ("Comment", "COMMENT"),
        ],
        default: if values.on_or("human", true) {
            "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}".into()
        } else {
            "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}".into()
        },
        quiet: "{{.ID}}",
    };
    let format = listing.format(values.text("format"), values.on("quiet"))?;
    let client = call.client()?;
    let query = platform_query(values.text("platform"))?;
    let items: Vec<HistoryItem> = client.get(&format!("/images/{}/history", encode(&call.words[0])), &query).await?;
    let short = !values.on("no-trunc");
    let human = values.on_or("human", true);
    let rows: Vec<Row> = items.iter().map(|item| history_row(item, short, human)).collect();
    terminal::print(&listing.show(&format, &rows)?);
    Ok(0)
}

fn history_row(item: &HistoryItem, short: bool, human: bool) -> Row {
    let created = Timestamp::from_second(item.created).unwrap_or_default();
    let by = item.created_by.replace('\t', " ");
    Row::new([
        ("ID", if short { human::short_id(&item.id).to_owned() } else { item.id.clone() }),
        ("CreatedSince", if item.created <= -62_135_596_800 { "N/A".into() } else { human::since(item.created) }),
        (
            "CreatedAt",
            created
                .to_zoned_datetime(jiff::tz::TimeZone::system())
                .strftime("%Y-%m-%dT%H:%M:%S%:z")
                .to_string()
                .replace("+00:00", "Z"),
        ),
        ("CreatedBy", if short { human::ellipsis(&by, 45) } else { by }),
        ("Size", if human { human::size(item.size) } else { item.size.to_string() }),
        ("Comment", item.comment.clone()),
    ])
}

/// `--platform` in the form that newer endpoints take.
pub(super) fn platform_query(wanted: &str) -> Result<Query, Error> {
    if wanted.is_empty() {
        return Ok(Query::new());
    }
    platform::check(wanted)
        .map_err(|why| Error::plain(why.replace("error parsing specified platform: ", "invalid platform: ")))?;
    Ok(Query::new().with("platform", &platform::json(wanted)))
}

/// `docker tag`.
pub(crate) async fn tag(call: Invocation) -> Result<u8, Error> {
    let name = &call.words[1];
    let target = Reference::parse_normalized(name).map_err(|error| {
        Error::plain(format!("Error parsing reference: {} is not a valid repository/tag: {error}", go::quote(name)))
    })?;
    if target.digest().is_some() {
        return Err(Error::plain("refusing to create a tag with a digest reference"));
    }
    let query = Query::new().with("repo", &target.name()).with("tag", target.tag().unwrap_or("latest"));
    call.client()?.post(&format!("/images/{}/tag", encode(&call.words[0])), &query).await?;
    Ok(0)
}

/// `docker rmi`.
pub(crate) async fn remove(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let client = call.client()?;
    let force = values.on("force");
    let mut query = Query::new().with_flag("force", force).with_flag("noprune", values.on("no-prune"));
    for wanted in values.list("platform") {
        platform::check(wanted).map_err(Error::plain)?;
        query = query.with("platforms", &platform::json(wanted));
    }
    let (mut failures, mut fatal) = (Vec::new(), false);
    for name in &call.words {
        let removed = match client.delete(&format!("/images/{}", encode(name)), &query).await {
            Ok(answer) => answer.json::<Vec<DeleteItem>>().await,
            Err(error) => Err(error),
        };
        match removed {
            Ok(items) => terminal::print(&items.iter().map(removal).collect::<String>()),
            Err(error) => {
                fatal |= error.status() != 404;
                failures.push(error.to_string());
            }
        }
    }
    if failures.is_empty() {
        return Ok(0);
    }
    // Removing by force what is not there is said, but no failure.
    if force && !fatal {
        terminal::print_error(&format!("{}\n", failures.join("\n")));
        return Ok(0);
    }
    Err(Error::joined(&failures))
}

/// `Untagged: …` or `Deleted: …`.
pub(super) fn removal(item: &DeleteItem) -> String {
    match item.deleted.is_empty() {
        true => format!("Untagged: {}\n", item.untagged),
        false => format!("Deleted: {}\n", item.deleted),
    }
}

/// `docker commit`.
pub(crate) async fn commit(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let mut query = Query::new().with("container", &call.words[0]);
    if let Some(name) = call.words.get(1).filter(|name| !name.is_empty()) {
        let reference = Reference::parse_normalized(name).map_err(|error| Error::plain(error.to_string()))?;
        if reference.digest().is_some() {
            return Err(Error::plain("refusing to create a tag with a digest reference"));
        }
        query = query.with("repo", &reference.name()).with("tag", reference.tag().unwrap_or("latest"));
    }
    query = query.with_text("comment", values.text("message")).with_text("author", values.text("author"));
    for change in values.list("change") {
        query = query.with("changes", change);
    }
    if !values.on_or("pause", true) {
        query = query.with("pause", "0");
    }
    let client = call.client()?;
    let answer: CommitResponse = client.send(Method::POST, "/commit", &query, Body::empty, &[]).await?.json().await?;
    terminal::print(&format!("{}\n", answer.id));
    Ok(0)
}
