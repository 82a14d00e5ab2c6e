//! `docker search`.

use crate::client::{Body, Query};
use crate::error::Error;
use crate::format::human;
use crate::format::row::{Listing, Row};
use crate::{Invocation, terminal};
use api::auth::AuthConfig;
use api::image::SearchResult;
use hyper::Method;
use oci::reference::Reference;

/// `docker search`.
pub(crate) async fn search(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let listing = Listing {
        type_name: "*registry.searchContext",
        headings: &[
            ("Name", "NAME"),
            ("Description", "DESCRIPTION"),
            ("StarCount", "STARS"),
            ("IsOfficial", "OFFICIAL"),
            ("IsAutomated", "AUTOMATED"),
        ],
        default: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}".into(),
        quiet: "{{.Name}}",
    };
    let format = listing.format(values.text("format"), false)?;
    let term = &call.words[0];
    let query = Query::new()
        .with("term", term)
        .with_text("limit", values.text("limit"))
        .with_text("filters", &values.filters().to_query());
    // A term is no reference, but what stands before its first slash may be a registry that is known.
    let auth = Reference::parse_normalized(term).ok().and_then(|name| call.config().header_for(&name));
    let headers = [("x-registry-auth", auth.unwrap_or_else(|| AuthConfig::default().to_header()))];
    let client = call.client()?;
    let answer = client.send(Method::GET, "/images/search", &query, Body::empty, &headers).await?;
    let mut found: Vec<SearchResult> = answer.json().await?;
    found.sort_by_key(|result| std::cmp::Reverse(result.star_count));
    let rows: Vec<Row> = found.iter().map(|result| row(result, !values.on("no-trunc"))).collect();
    terminal::print(&listing.show(&format, &rows)?);
    Ok(0)
}

fn row(result: &SearchResult, short: bool) -> Row {
    let description = result.description.replace(['\n', '\r'], " ");
    let mark = |is: bool| if is { "[OK]".to_owned() } else { String::new() };
    Row::new([
        ("Name", result.name.clone()),
        ("Description", if short { human::ellipsis(&description, 45) } else { description }),
        ("StarCount", result.star_count.to_string()),
        ("IsOfficial", mark(result.is_official)),
        ("IsAutomated", mark(result.is_automated)),
    ])
}
