//! People on the wire, who are users in this dialect.

use landreeve_core::PageOf;
use landreeve_delivery::people::Person;
use serde::Serialize;
use utoipa::ToSchema;

use super::id;
use super::time::millis;

#[derive(Debug, Serialize, ToSchema)]
pub struct UsersBody {
    ok: bool,
    users: Vec<UserShown>,
    /// Null on the last page.
    next_page: Option<u64>,
    total: u64,
    total_pages: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct UserShown {
    id: String,
    name: String,
    email: String,
    github_username: Option<String>,
    additional_github_username: Option<String>,
    gitlab_username: Option<String>,
    start_date: Option<String>,
    ai_light_adoption_date: Option<String>,
    ai_moderate_adoption_date: Option<String>,
    ai_heavy_adoption_date: Option<String>,
    /// This server does not store attributes.
    attributes: Vec<String>,
    /// People have no roles: they cannot sign in.
    roles: Vec<String>,
    deleted_at: Option<String>,
}

impl From<Person> for UserShown {
    fn from(person: Person) -> UserShown {
        UserShown {
            id: id::encode(person.id.0),
            name: person.name,
            email: person.email,
            github_username: person.github_username,
            additional_github_username: person.additional_github_username,
            gitlab_username: person.gitlab_username,
            start_date: person.start_date,
            ai_light_adoption_date: person.ai_light_adoption_date,
            ai_moderate_adoption_date: person.ai_moderate_adoption_date,
            ai_heavy_adoption_date: person.ai_heavy_adoption_date,
            attributes: Vec::new(),
            roles: Vec::new(),
            deleted_at: person.deleted_at.map(millis),
        }
    }
}

impl UsersBody {
    pub fn new(page: PageOf<Person>, number: u64) -> UsersBody {
        let size = u64::from(page.limit.max(1));
        UsersBody {
            ok: true,
            next_page: page.has_more().then_some(number + 1),
            total: page.total,
            total_pages: page.total.div_ceil(size),
            users: page.items.into_iter().map(UserShown::from).collect(),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct UserBody {
    ok: bool,
    user: UserShown,
}

impl From<Person> for UserBody {
    fn from(person: Person) -> UserBody {
        UserBody { ok: true, user: person.into() }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct FoundUserBody {
    ok: bool,
    user: FoundUser,
}

#[derive(Debug, Serialize, ToSchema)]
struct FoundUser {
    id: String,
    name: String,
    email: String,
    /// This server does not store time zones.
    tz: Option<String>,
    /// This server does not store Slack names.
    slack_id: Option<String>,
}

impl From<Person> for FoundUserBody {
    fn from(person: Person) -> FoundUserBody {
        let user = FoundUser {
            id: id::encode(person.id.0),
            name: person.name,
            email: person.email,
            tz: None,
            slack_id: None,
        };
        FoundUserBody { ok: true, user }
    }
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct UserArguments {
    #[schema(format = Email, max_length = 255)]
    email: String,
    #[schema(max_length = 255)]
    name: Option<String>,
    #[schema(max_length = 255)]
    github_username: Option<String>,
    #[schema(max_length = 255)]
    additional_github_username: Option<String>,
    #[schema(max_length = 255)]
    gitlab_username: Option<String>,
    /// YYYY-MM-DD; an empty string clears, here and below.
    #[schema(format = Date)]
    start_date: Option<String>,
    #[schema(format = Date)]
    ai_light_adoption_date: Option<String>,
    #[schema(format = Date)]
    ai_moderate_adoption_date: Option<String>,
    #[schema(format = Date)]
    ai_heavy_adoption_date: Option<String>,
}
