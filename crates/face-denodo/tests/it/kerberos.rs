//! Kerberos tickets, checked by a double: what the tests of the server check with a real KDC.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use landreeve_core::ids::BoxFuture;
use landreeve_core::tickets::{Proven, REFUSED, TicketVerifier};
use landreeve_core::{Error, Result};
use landreeve_estate::ops::UserChange;
use landreeve_estate::ops::audit::audit_list;
use landreeve_estate::ops::users::user_update;
use landreeve_face_denodo::{Options, router};
use landreeve_http::credentials::to_base64;
use landreeve_testkit::{Answer, Ask, Kit, PASSWORD, everything};
use serde_json::json;

use crate::{Face, challenges, face, fails, sign_in};

/// Its tokens are `WORD REST`; each counts once. `for USER NUMBER` is a ticket, `silent USER NUMBER` one whose client does
/// not ask who the server is.
#[derive(Debug, Default)]
pub struct Double(Mutex<HashSet<Vec<u8>>>);

impl TicketVerifier for Double {
    fn verify(&self, token: Vec<u8>) -> BoxFuture<'_, Result<Proven>> {
        let text = String::from_utf8_lossy(&token).into_owned();
        let is_first = self.0.lock().unwrap().insert(token);
        Box::pin(async move {
            let words: Vec<&str> = text.split(' ').collect();
            match words[..] {
                ["for", user, _] if is_first => {
                    Ok(Proven { user: user.to_owned(), reply: Some(b"it is me".to_vec()) })
                }
                ["silent", user, _] if is_first => Ok(Proven { user: user.to_owned(), reply: None }),
                ["busy"] => Err(Error::rate_limited("too many tickets", Duration::from_secs(2))),
                ["broken"] => Err(Error::unavailable("kerberos", "the library did not answer in time")),
                _ => Err(Error::unauthenticated("invalid_auth", REFUSED)),
            }
        })
    }
}

fn negotiate(path: &str, token: &str) -> Ask {
    Ask::get(path).header("authorization", format!("Negotiate {}", to_base64(token.as_bytes())))
}

fn bare(path: &str, token: &str) -> Ask {
    Ask::get(path).header("authorization", to_base64(token.as_bytes()))
}

/// The token that the client receives.
fn reply() -> String {
    format!("Negotiate {}", to_base64(b"it is me"))
}

#[tokio::test]
async fn a_ticket_opens_a_session_or_signs_in_for_one_request() {
    let (kit, router) = face().await;
    kit.user("ann", &everything()).await;
    let mut number = 0;
    for path in ["/login", "/loginSingleSignOn"] {
        for ask in [negotiate, bare] {
            number += 1;
            let answer = ask(path, &format!("for ann {number}")).send(&router).await;
            assert_eq!((answer.status, &answer.json()["userName"]), (200, &json!("ann")), "{path}");
            assert_eq!(challenges(&answer), [reply()]);
            let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
            let list = Ask::get("/deployments").header("cookie", cookie).send(&router).await;
            assert_eq!((list.status, challenges(&list).len()), (200, 0));
        }
    }
    for ask in [negotiate, bare] {
        number += 1;
        let answer = ask("/environments", &format!("for ann {number}")).send(&router).await;
        assert_eq!((answer.status, challenges(&answer)), (200, vec![reply().as_str()]));
        assert_eq!(answer.header("set-cookie"), "");
    }
    let silent = negotiate("/environments", "silent ann 1").send(&router).await;
    assert_eq!((silent.status, challenges(&silent).len()), (200, 0));
    // The scheme is not case sensitive.
    let token = to_base64(b"for ann 99");
    let ask = Ask::get("/login").header("authorization", format!("nEGOTIATE  {token}"));
    assert_eq!(ask.send(&router).await.status, 200);
    // A password is accepted on both paths.
    assert_eq!(Ask::get("/loginSingleSignOn").basic("ann", PASSWORD).send(&router).await.status, 200);

    let (operator, page) = (kit.operator(), landreeve_core::Page { offset: 0, limit: 100 });
    let events = audit_list(&kit.estate, &operator, page).await.unwrap().items;
    let signed_in = |detail: &str| {
        events.iter().filter(|event| event.action == "signed_in" && event.detail == detail).count()
    };
    assert_eq!((signed_in("Kerberos"), signed_in("denodo")), (1, 6));
}

#[tokio::test]
async fn refused_tickets_are_401_and_look_the_same() {
    let (kit, router) = face().await;
    let ann = kit.user("ann", &everything()).await;
    let refused = |answer: &Answer| {
        fails(answer, 401, REFUSED);
        assert_eq!(challenges(answer), ["Negotiate", "Basic realm=\"Solution Manager\""]);
    };
    // Sent again, expired or of NTLM, and of a user that does not exist.
    assert_eq!(negotiate("/login", "for ann 1").send(&router).await.status, 200);
    for path in ["/login", "/loginSingleSignOn", "/environments"] {
        refused(&negotiate(path, "for ann 1").send(&router).await);
        refused(&bare(path, "expired").send(&router).await);
        refused(&negotiate(path, "NTLMSSP\0").send(&router).await);
        refused(&negotiate(path, &format!("for stranger {path}")).send(&router).await);
    }
    let change = UserChange { enabled: Some(false), ..UserChange::default() };
    user_update(&kit.estate, &kit.operator(), ann.id, change).await.unwrap();
    refused(&negotiate("/login", "for ann 2").send(&router).await);

    let not_base64 = "the token in the Authorization header is not base64";
    for header in ["Negotiate !!!", "Negotiate Y-_I", "Negotiate YII=YII=", "!!!!", "Token-1"] {
        let answer = Ask::get("/login").header("authorization", header).send(&router).await;
        fails(&answer, 401, not_base64);
    }
    let long = "A".repeat(64 * 1_024 + 4);
    for header in [format!("Negotiate {long}"), long] {
        let answer = Ask::get("/login").header("authorization", header).send(&router).await;
        fails(&answer, 401, "the Authorization header cannot be read");
    }
    let busy = negotiate("/login", "busy").send(&router).await;
    assert_eq!((busy.status, busy.header("retry-after")), (429, "2"));
    fails(&negotiate("/login", "broken").send(&router).await, 503, "the library did not answer in time");
}

#[tokio::test]
async fn a_session_comes_first_and_a_ticket_is_not_wasted_on_it() {
    let (kit, router) = face().await;
    kit.user("ann", &everything()).await;
    kit.user("bob", &everything()).await;
    let cookie = sign_in(&router, "bob").await;
    let both = || negotiate("/environments", "for ann 1").header("cookie", &cookie);
    let answer = both().send(&router).await;
    assert_eq!((answer.status, challenges(&answer).len()), (200, 0));
    // The ticket has not been used, so that it counts when the session has ended.
    kit.clock.advance(Duration::from_secs(31 * 60));
    assert_eq!(challenges(&both().send(&router).await), [reply()]);
}

#[tokio::test]
async fn the_reply_is_sent_with_other_errors_too() {
    let (kit, router) = face().await;
    kit.user("ann", &[]).await;
    let answer = negotiate("/environments", "for ann 1").send(&router).await;
    assert_eq!((answer.status, challenges(&answer)), (403, vec![reply().as_str()]));
}

async fn without_kerberos() -> (Kit, Router) {
    let Face { kit, plane, .. } = Face::new().await;
    let router = router(kit.estate.clone(), plane, Options::default()).unwrap().into();
    (kit, router)
}

#[tokio::test]
async fn kerberos_is_not_offered_without_configuration() {
    let (_kit, router) = without_kerberos().await;
    let message = "Kerberos sign-on is not configured on this server: set [kerberos] keytab and realms in its configuration";
    let basic = ["Basic realm=\"Solution Manager\""];
    let asks = || [negotiate("/loginSingleSignOn", "for admin 1"), bare("/loginSingleSignOn", "for admin 1")];
    for ask in asks()
        .into_iter()
        .chain([Ask::get("/loginSingleSignOn"), Ask::get("/loginSingleSignOn").basic("admin", PASSWORD)])
    {
        let answer = ask.send(&router).await;
        fails(&answer, 503, message);
        assert!(challenges(&answer).is_empty());
    }
    let message =
        "Kerberos sign-on is not configured on this server; use GET /login with a user name and password";
    for path in ["/login", "/environments"] {
        let answer = negotiate(path, "for admin 1").send(&router).await;
        fails(&answer, 401, message);
        assert_eq!(challenges(&answer), basic);
        let answer = bare(path, "for admin 1").send(&router).await;
        fails(&answer, 401, "the Authorization header cannot be read");
        assert_eq!(challenges(&answer), basic);
        assert_eq!(challenges(&Ask::get(path).send(&router).await), basic);
    }
    assert_eq!(Ask::get("/login").basic("admin", PASSWORD).send(&router).await.status, 200);
}
