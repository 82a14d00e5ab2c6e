//! Who asks, and what they may.
//!
//! ```text
//! Authorization: Basic   ─► htpasswd file ─────────────► user ──rules──► rights by repository
//!                Bearer  ─► signature of an issuer ───────────────────► rights that stand in the token
//!                nothing ─► anonymous ─────────────────────────rules──► rights by repository
//! ```
//! A token is good for what it says, whatever the rules are now: that is why tokens are short-lived. Without users and
//! issuers everybody may do everything.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::Method;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, WWW_AUTHENTICATE};

use crate::failure::{Code, Failure, Result};
use crate::htpasswd::Users;
use crate::name::Name;
use crate::pattern::Pattern;
use crate::route::Route;
use crate::tokens::{Grant, Token, Tokens};

/// What one may do in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Right {
    Pull,
    Push,
    Delete,
}

impl Right {
    /// Its name in rules and in tokens.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }

    pub(crate) const ALL: [Self; 3] = [Self::Pull, Self::Push, Self::Delete];

    /// What a method needs.
    fn of(method: &Method) -> Self {
        match *method {
            Method::GET | Method::HEAD => Self::Pull,
            Method::DELETE => Self::Delete,
            _ => Self::Push,
        }
    }
}

/// Whom a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    /// Everybody, also those who did not say who they are.
    Anonymous,
    /// Everybody who has a password.
    Users,
    /// One of them.
    User(String),
}

/// `who:repositories:rights`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    subject: Subject,
    repositories: Pattern,
    rights: Vec<Right>,
}

impl Rule {
    /// Reads `alice:team/*:pull,push`, `*:*:pull` (all users), `anonymous:public/*:*` (all rights).
    pub(crate) fn parse(text: &str) -> std::result::Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let [who, pattern, rights] = parts[..] else { return Err("who:repositories:rights is meant".into()) };
        let subject = match who {
            "" => return Err("nobody is named; * is all users, anonymous everybody".into()),
            "anonymous" => Subject::Anonymous,
            "*" => Subject::Users,
            user => Subject::User(user.to_owned()),
        };
        let right = |word: &str| Right::ALL.into_iter().find(|right| right.word() == word);
        let rights = match rights {
            "*" => Right::ALL.to_vec(),
            list => list
                .split(',')
                .map(|word| right(word).ok_or(format!("there is no right {word:?}; pull, push, delete or * is meant")))
                .collect::<std::result::Result<_, _>>()?,
        };
        Ok(Self { subject, repositories: Pattern::new(pattern), rights })
    }

    fn gives(&self, user: Option<&str>, name: &str, right: Right) -> bool {
        let is_meant = match (&self.subject, user) {
            (Subject::Anonymous, _) | (Subject::Users, Some(_)) => true,
            (Subject::User(this), Some(user)) => this == user,
            (Subject::Users | Subject::User(_), None) => false,
        };
        is_meant && self.rights.contains(&right) && self.repositories.matches(name)
    }
}

/// Who sent a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Who {
    /// None for somebody who did not say.
    pub(crate) user: Option<String>,
    /// What a token says; None for somebody who did not send one.
    grants: Option<Vec<Grant>>,
    /// Did an issuer elsewhere sign that token? Then its user is nobody whom the rules here know.
    is_foreign: bool,
}

impl Who {
    /// Does a token give them this of the registry as a whole? Only issuers elsewhere do so.
    fn is_granted(&self, what: &str) -> bool {
        self.grants.iter().flatten().any(|grant| grant.kind == "registry" && grant.name == what)
    }
}

/// What decides.
#[derive(Debug, Default)]
pub(crate) struct Access {
    pub(crate) users: Option<Users>,
    pub(crate) tokens: Option<Tokens>,
    pub(crate) rules: Vec<Rule>,
    /// Is TLS spoken here? Then this is where tokens are to be fetched from.
    pub(crate) tls: bool,
}

impl Access {
    /// May everybody do everything?
    pub(crate) fn is_open(&self) -> bool {
        self.users.is_none() && self.tokens.is_none()
    }

    /// Finds out who sent a request. Fails for a wrong password or a bad token.
    pub(crate) async fn who(&self, headers: &HeaderMap, route: &Route) -> Result<Who> {
        let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (Some(value), false) = (value, self.is_open()) else { return Ok(Who::default()) };
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        let refused = || self.challenge(headers, route, &Method::GET, None);
        if scheme.eq_ignore_ascii_case("basic") {
            let (user, password) = basic(rest.trim()).ok_or_else(refused)?;
            let users = self.users.as_ref().ok_or_else(refused)?;
            if !users.verify(&user, &password).await {
                return Err(refused());
            }
            return Ok(Who { user: Some(user), ..Who::default() });
        }
        if let (true, Some(tokens)) = (scheme.eq_ignore_ascii_case("bearer"), &self.tokens) {
            let Token { user, grants, is_own } = tokens.verify(rest.trim()).map_err(|reason| {
                self.challenge(headers, route, &Method::GET, Some("invalid_token")).because(reason)
            })?;
            return Ok(Who { user, grants: Some(grants), is_foreign: !is_own });
        }
        Err(refused())
    }

    /// Refuses a request that they may not make.
    pub(crate) fn check(&self, who: &Who, headers: &HeaderMap, route: &Route, method: &Method) -> Result<()> {
        let allowed = match route {
            // Whoever asks for a token says there who they are, by a password or not at all: a token is no way to the next.
            Route::Token => who.grants.is_none(),
            // Clients learn here that they may have to say who they are; which repositories they see is decided later.
            Route::Base | Route::Catalog => self.is_open() || who.user.is_some() || who.grants.is_some(),
            Route::Metrics => self.is_open() || who.user.is_some() && !who.is_foreign || who.is_granted("metrics"),
            _ => route.repository().is_none_or(|name| self.may(who, name, Right::of(method))),
        };
        if allowed {
            return Ok(());
        }
        if who.user.is_some() && who.grants.is_none() {
            return Err(Code::Denied.into());
        }
        Err(self.challenge(headers, route, method, who.grants.as_ref().map(|_| "insufficient_scope")))
    }

    /// Have they this right in this repository?
    pub(crate) fn may(&self, who: &Who, name: &Name, right: Right) -> bool {
        self.is_open()
            || match &who.grants {
                Some(grants) => grants.iter().any(|grant| grant.gives(name.as_str(), right)),
                None => self.rules_give(who.user.as_deref(), name.as_str(), right),
            }
    }

    /// May they know that this repository exists?
    pub(crate) fn may_see(&self, who: &Who, name: &str) -> bool {
        self.is_open()
            || !who.is_foreign && self.rules_give(who.user.as_deref(), name, Right::Pull)
            || who.is_granted("catalog")
            || who.grants.iter().flatten().any(|grant| grant.gives(name, Right::Pull))
    }

    pub(crate) fn rules_give(&self, user: Option<&str>, name: &str, right: Right) -> bool {
        self.rules.iter().any(|rule| rule.gives(user, name, right))
    }

    /// Says how to identify oneself (RFC 9110, section 11; for `Bearer` Docker's token specification).
    fn challenge(&self, headers: &HeaderMap, route: &Route, method: &Method, error: Option<&str>) -> Failure {
        let challenge = match &self.tokens {
            None => "Basic realm=\"gantry registry\"".to_owned(),
            // At the route that gives tokens out, a token is no help.
            Some(_) if *route == Route::Token => "Basic realm=\"gantry registry\"".to_owned(),
            Some(tokens) => {
                let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
                let scheme = if self.tls { "https" } else { "http" };
                let realm = tokens.realm.clone().unwrap_or_else(|| format!("{scheme}://{host}/token"));
                let mut text = format!("Bearer realm=\"{realm}\",service=\"{}\"", tokens.audience);
                if let Some(name) = route.repository() {
                    let actions = if Right::of(method) == Right::Push { "pull,push" } else { Right::of(method).word() };
                    text.push_str(&format!(",scope=\"repository:{name}:{actions}\""));
                } else if *route == Route::Catalog {
                    text.push_str(",scope=\"registry:catalog:*\"");
                }
                if let Some(error) = error {
                    text.push_str(&format!(",error=\"{error}\""));
                }
                text
            }
        };
        Failure::new(Code::Unauthorized).header(WWW_AUTHENTICATE, &challenge)
    }
}

/// User and password of the scheme `Basic` (RFC 7617).
pub(crate) fn basic(text: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let rules: Vec<Rule> = ["alice:team/*:pull,push", "*:shared/*:pull", "anonymous:public/*:*"]
            .iter()
            .map(|text| Rule::parse(text).unwrap())
            .collect();
        let access = Access { rules, ..Access::default() };
        for (user, name, right, given) in [
            (Some("alice"), "team/app", Right::Push, true),
            (Some("alice"), "team/app", Right::Delete, false),
            (Some("bob"), "team/app", Right::Pull, false),
            (Some("bob"), "shared/x", Right::Pull, true),
            (None, "shared/x", Right::Pull, false),
            (None, "public/x", Right::Delete, true),
            (Some("bob"), "public/x", Right::Push, true),
        ] {
            assert_eq!(access.rules_give(user, name, right), given, "{user:?} {name} {right:?}");
        }
        for bad in ["", "a:b", ":*:pull", "a:*:write", "a:*:"] {
            assert!(Rule::parse(bad).is_err(), "{bad}");
        }
    }
}
