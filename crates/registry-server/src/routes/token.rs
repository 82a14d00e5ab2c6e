//! `/token`: who says who they are gets a token for what they may, of what they ask for.
//!
//! `GET` with a password in `Authorization`, or `POST` with a form (OAuth 2, grant type `password`), both as Docker's
//! token specification describes them.

use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper::{Method, Response, StatusCode};
use serde_json::json;

use crate::access::Right;
use crate::body::Body;
use crate::failure::{Code, Failure, Result};
use crate::reply;
use crate::request::Request;
use crate::server::Server;
use crate::tokens::Grant;

/// Bytes of a form.
const MAX_FORM: usize = 64 << 10;
/// Repositories that one token is for.
const MAX_SCOPES: usize = 64;

pub(super) async fn issue(server: &Server, request: &mut Request) -> Result<Response<Body>> {
    let unsupported = || Failure::new(Code::Unsupported).status(StatusCode::NOT_FOUND);
    let tokens = server.access.tokens.as_ref().ok_or_else(unsupported)?;
    let (user, scopes) = if request.is(&Method::POST) {
        let form = request.body.document(MAX_FORM).await?.ok_or(Code::SizeInvalid)?;
        if !request.header(&CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
            return Err(Failure::new(Code::Unsupported)
                .status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
                .because("a form is meant"));
        }
        let form: Vec<(String, String)> = form_urlencoded::parse(&form).into_owned().collect();
        (Some(by_form(server, &form).await?), scopes(&form))
    } else {
        (request.who.user.clone(), scopes(request.query()))
    };
    if scopes.len() > MAX_SCOPES {
        return Err(Failure::new(Code::Denied).because(format!("a token is for at most {MAX_SCOPES} repositories")));
    }
    let grants = scopes.iter().filter_map(|scope| granted(server, user.as_deref(), scope)).collect();
    let (token, expires_in) =
        tokens.issue(user.as_deref(), grants).ok_or_else(unsupported)?.map_err(Failure::internal)?;
    let issued_at = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let answer = json!({"token": token, "access_token": token, "expires_in": expires_in, "issued_at": issued_at});
    Ok(reply::header(reply::json(&answer), CACHE_CONTROL, "no-store"))
}

async fn by_form(server: &Server, form: &[(String, String)]) -> Result<String> {
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    if field("grant_type") != Some("password") {
        let failure = Failure::new(Code::Unsupported).status(StatusCode::BAD_REQUEST);
        return Err(failure.because("only the grant type password is supported: there are no refresh tokens here"));
    }
    let (user, password) = (field("username").unwrap_or_default(), field("password").unwrap_or_default());
    match &server.access.users {
        Some(users) if users.verify(user, password).await => Ok(user.to_owned()),
        _ => Err(Code::Unauthorized.into()),
    }
}

/// All scopes: the parameter may be repeated, and have several separated by blanks.
fn scopes(parameters: &[(String, String)]) -> Vec<String> {
    let values = parameters.iter().filter(|(key, _)| key == "scope").map(|(_, value)| value);
    values.flat_map(|value| value.split_whitespace()).map(str::to_owned).collect()
}

/// What they may of `repository:NAME:ACTIONS`; None for nothing.
fn granted(server: &Server, user: Option<&str>, scope: &str) -> Option<Grant> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    // `repository(plugin)`: the class says nothing about rights.
    if kind.split('(').next() != Some("repository") {
        return None;
    }
    let wanted = |right: &Right| actions.split(',').any(|action| action == right.word() || action == "*");
    let actions: Vec<String> = Right::ALL
        .into_iter()
        .filter(wanted)
        .filter(|right| server.access.rules_give(user, name, *right))
        .map(|right| right.word().to_owned())
        .collect();
    (!actions.is_empty()).then(|| Grant { kind: "repository".to_owned(), name: name.to_owned(), actions })
}
