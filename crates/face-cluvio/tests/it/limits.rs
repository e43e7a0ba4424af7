//! The documents state what the two servers accept.

use axum::Router;
use landreeve_testkit::limits::{Limited, stated_limits_are_enforced};
use landreeve_testkit::{Answer, Ask};
use serde_json::{Value, json};

use crate::routes::{filled, things};
use crate::support::{World, related};

struct Api {
    world: World,
    things: Vec<(&'static str, String)>,
}

impl Api {
    fn body(&self, method: &str, path: &str) -> Option<Value> {
        let document = |attributes: Value, relationships: Value| {
            Some(json!({"data": {"attributes": attributes, "relationships": relationships}}))
        };
        let datasource = filled("/datasources/{id}", &self.things).replace("/datasources/", "");
        match (method, path) {
            ("POST", "/datasources") => document(
                json!({"name": "a", "database_type": "sqlite", "database": "shop.db", "host": "h"}),
                json!({}),
            ),
            ("POST", "/reports") => document(
                json!({"name": "a", "query": "select 1"}),
                json!({"datasource": related("datasources", &datasource)}),
            ),
            ("POST", "/filters") => document(json!({"name": "a", "variable_name": "v"}), json!({})),
            ("POST", "/dashboards" | "/sql_snippets" | "/datasource_agents") => {
                document(json!({"name": "a"}), json!({}))
            }
            ("POST", "/datasources/{id}/executions") => Some(json!({"sql_query": "select 1"})),
            ("PATCH" | "POST", "/organization" | "/reports/{id}/run" | "/filters/{id}/options") => {
                Some(json!({}))
            }
            ("PATCH" | "PUT", "/filters/{id}") => document(json!({"control_type": "dropdown"}), json!({})),
            ("PATCH" | "PUT", _) => document(json!({}), json!({})),
            _ => None,
        }
    }
}

/// The pointer or parameter of each error, with dots.
fn places(answer: &Answer) -> Vec<String> {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    let place = |error: &Value| {
        let source = &error["source"];
        let place = source["pointer"].as_str().or(source["parameter"].as_str())?;
        Some(place.trim_start_matches('/').replace('/', "."))
    };
    errors.iter().filter_map(place).collect()
}

impl Limited for Api {
    fn router(&self) -> &Router {
        &self.world.api
    }

    fn base(&self) -> &'static str {
        ""
    }

    async fn valid(&self, method: &str, path: &str) -> Ask {
        let mut target = filled(path, &self.things);
        if path == "/datasources/{id}/executions" {
            // Others try to update the datasource.
            target = path.replace("{id}", &self.world.datasource().await);
        }
        let ask = Ask::new(method, target);
        let ask = ask.header("authorization", format!("Api {}", self.world.key));
        match self.body(method, path) {
            Some(body) => ask.json(&body),
            None => ask,
        }
    }

    fn named(&self, answer: &Answer) -> Vec<String> {
        places(answer)
    }

    fn dependent(&self) -> &'static [&'static str] {
        // As many labels as values; a file that is there; what the dashboard allows.
        &["data.attributes.value_names", "data.attributes.database", "parameters.aggregation"]
    }
}

#[tokio::test]
async fn the_document_of_the_api_server_states_what_is_accepted() {
    let world = World::new().await;
    let things = things(&world).await;
    let tried = stated_limits_are_enforced(&Api { world, things }).await;
    assert!(tried > 400, "only {tried} limits");
}

struct Data {
    world: World,
    key: String,
    token: String,
}

impl Limited for Data {
    fn router(&self) -> &Router {
        &self.world.data
    }

    fn base(&self) -> &'static str {
        ""
    }

    async fn valid(&self, method: &str, path: &str) -> Ask {
        let ask = Ask::new(method, path.replace("{key}", &self.key));
        // The codec is a fake, so that its JSON is none.
        ask.header("authorization", format!("Data {}", self.token)).header("accept", "text/csv")
    }

    fn named(&self, answer: &Answer) -> Vec<String> {
        places(answer)
    }
}

#[tokio::test]
async fn the_document_of_the_data_server_states_what_is_accepted() {
    let world = World::new().await;
    let datasource = world.datasource().await;
    let (id, _) = world.ran(&datasource, "select 1").await;
    let access = world.get(&format!("/executions/{id}/data")).await.json;
    let text = |name: &str| access[name].as_str().unwrap().to_owned();
    let data = Data { key: text("data_key"), token: text("data_access_token"), world };
    assert!(stated_limits_are_enforced(&data).await > 2);
}
