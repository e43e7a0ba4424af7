//! Custom data: all records or none are set; they are found by either name.

use landreeve_delivery::custom_data::{
    CustomDataRef, NewCustomData, custom_data_delete, custom_data_delete_all, custom_data_get,
    custom_data_list, custom_data_set, custom_data_set_all,
};
use serde_json::{Value, json};

use crate::support::{World, minute};

conformance![a_record_has_two_names, one_invalid_record_rejects_them_all, units_do_not_share_records];

fn new(reference: &str, key: &str, value: Value) -> NewCustomData {
    NewCustomData { reference: reference.to_owned(), key: key.to_owned(), value, at: None }
}

fn by_key(reference: &str, key: &str) -> CustomDataRef {
    CustomDataRef::Key { reference: reference.to_owned(), key: key.to_owned() }
}

async fn a_record_has_two_names(world: &World) {
    let (plane, ctx) = (&world.plane, &world.ctx);
    let set = new("o/r", "k", json!({"b": 1, "a": [true]}));
    let set = custom_data_set(plane, ctx, set.into()).await.unwrap();
    assert_eq!(set.at, world.kit.estate.now());
    assert_eq!(custom_data_get(plane, ctx, &by_key("o/r", "k")).await.unwrap(), set);
    assert_eq!(custom_data_get(plane, ctx, &CustomDataRef::Id(set.id)).await.unwrap(), set);
    // Setting it again changes the same record.
    let again = NewCustomData { at: Some(minute(3)), ..new("o/r", "k", json!({"b": 2})) };
    let again = vec![again, new("o/r", "j", json!({}))];
    let again = custom_data_set_all(plane, ctx, again.into()).await.unwrap();
    assert_eq!((again[0].id, again[0].at), (set.id, minute(3)));
    let listed = custom_data_list(plane, ctx, "o/r", None).await.unwrap().items;
    assert_eq!(listed, [again[1].clone(), again[0].clone()]);
    let rows = world.sql("SELECT reference, key, value, timestamp FROM custom_data WHERE key = 'k'").await;
    assert_eq!(rows, [["o/r", "k", "{\"b\":2}", "2026-01-01T00:03:00Z"]]);
    custom_data_delete(plane, ctx, &CustomDataRef::Id(set.id)).await.unwrap();
    for which in [by_key("o/r", "k"), CustomDataRef::Id(set.id)] {
        assert_eq!(custom_data_get(plane, ctx, &which).await.unwrap_err().code, "not_found");
        assert_eq!(custom_data_delete(plane, ctx, &which).await.unwrap_err().code, "not_found");
    }
    custom_data_delete(plane, ctx, &by_key("o/r", "j")).await.unwrap();
    assert_eq!(custom_data_list(plane, ctx, "o/r", None).await.unwrap().items, []);
    let three = vec![new("x", "1", json!({})), new("x", "2", json!({})), new("y", "1", json!({}))];
    custom_data_set_all(plane, ctx, three.into()).await.unwrap();
    assert_eq!(custom_data_delete_all(plane, ctx, "x".to_owned()).await.unwrap(), 2);
    assert_eq!(custom_data_delete_all(plane, ctx, "x".to_owned()).await.unwrap(), 0);
    assert_eq!(world.sql("SELECT reference FROM custom_data").await, [["y"]]);
}

async fn one_invalid_record_rejects_them_all(world: &World) {
    for (bad, field) in [
        (new("", "k", json!({})), "reference"),
        (new("r", "k\0", json!({})), "key"),
        (new("r", "k", json!([1])), "value"),
    ] {
        let one = custom_data_set(&world.plane, &world.ctx, bad.clone().into()).await.unwrap_err();
        assert_eq!(one.faults[0].field, field);
        let both = vec![new("r", "a", json!({})), bad];
        let error = custom_data_set_all(&world.plane, &world.ctx, both.into()).await.unwrap_err();
        assert_eq!((error.faults.len(), &error.faults[0].code), (1, &one.faults[0].code));
        assert_eq!(error.faults[0].field, format!("data.1.{field}"));
    }
    assert_eq!(world.number("SELECT count(*) FROM delivery_custom_data").await, 0);
}

async fn units_do_not_share_records(world: &World) {
    let ou = world.kit.ou("other").await;
    let other = landreeve_estate::ops::sign_in::system_in(&world.kit.estate, ou.id).await.unwrap();
    let (ours, theirs) = (new("r", "k", json!({"ours": 1})), new("r", "k", json!({"theirs": 1})));
    let ours = custom_data_set(&world.plane, &world.ctx, ours.into()).await.unwrap();
    let theirs = custom_data_set(&world.plane, &other, theirs.into()).await.unwrap();
    assert_ne!(ours.id, theirs.id);
    assert_eq!(custom_data_get(&world.plane, &other, &by_key("r", "k")).await.unwrap(), theirs);
    let error = custom_data_get(&world.plane, &other, &CustomDataRef::Id(ours.id)).await.unwrap_err();
    assert_eq!(error.code, "not_found");
}
