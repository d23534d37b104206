//! What can be read, in pages.

use sgagent::pb;
use tonic::Code;

use super::{
    fake::Mood,
    world::{World, refusal},
};

/// Ten NICs, of which only the first two have an interface.
async fn ten() -> World {
    let mut world = World::start().await;
    let nics: Vec<_> = (0..10)
        .map(|i| format!("{{id: n{i}, mac: '06:00:00:00:01:0{i}', interfaces: [{{name: vnet{i}}}], group_ids: [g{i}]}}"))
        .collect();
    let groups: Vec<_> = (0..10).map(|i| format!("{{id: g{i}}}")).collect();
    let members: Vec<_> = (0..10)
        .map(|i| format!("{{address: '2001:db8::1:1{i}'}}"))
        .collect();
    let yaml = format!(
        "{{nics: [{}], groups: [{}], members: [{{group_id: g3, add: [{}]}}]}}",
        nics.join(", "),
        groups.join(", "),
        members.join(", ")
    );
    world.apply(&yaml).await.unwrap();
    world
}

#[tokio::test]
async fn nics_come_in_pages_in_order_of_id() {
    let mut world = ten().await;
    let (mut ids, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = pb::ListNicsRequest {
            page_size: 4,
            page_token: token,
            states: vec![],
        };
        let page = world.client.list_nics(request).await.unwrap().into_inner();
        ids.extend(page.nics.into_iter().map(|info| info.nic.unwrap().id));
        (token, pages) = (page.next_page_token, pages + 1);
        if token.is_empty() {
            break;
        }
        // What comes between two pages moves nothing.
        if pages == 1 {
            world
                .apply("nics: [{id: a, mac: '06:00:00:00:02:00', interfaces: [{name: x}]}]")
                .await
                .unwrap();
        }
    }
    let wanted: Vec<_> = (0..10).map(|i| format!("n{i}")).collect();
    assert_eq!((pages, ids), (3, wanted));
}

#[tokio::test]
async fn nics_can_be_narrowed_to_states() {
    let mut world = ten().await;
    let mut list = async |states: Vec<pb::NicState>, page_size| {
        let states = states.into_iter().map(Into::into).collect();
        let request = pb::ListNicsRequest {
            page_size,
            page_token: String::new(),
            states,
        };
        let page = world.client.list_nics(request).await.unwrap().into_inner();
        (page.nics.len(), page.next_page_token.is_empty())
    };
    assert_eq!(list(vec![pb::NicState::Active], 2).await, (2, true));
    assert_eq!(list(vec![pb::NicState::Pending], 7).await, (7, false));
    assert_eq!(
        list(vec![pb::NicState::Active, pb::NicState::Pending], 0).await,
        (10, true)
    );
    assert_eq!(list(vec![pb::NicState::Quarantined], 0).await, (0, true));
}

#[tokio::test]
async fn groups_and_members_come_in_pages() {
    let mut world = ten().await;
    let request = pb::ListGroupsRequest {
        page_size: 4,
        ..Default::default()
    };
    let page = world
        .client
        .list_groups(request)
        .await
        .unwrap()
        .into_inner();
    let info = &page.groups[3];
    assert_eq!(info.group.as_ref().unwrap().id, "g3");
    assert_eq!((info.member_count, info.nic_count), (10, 1));
    let request = pb::ListGroupsRequest {
        page_size: 0,
        page_token: page.next_page_token,
    };
    let rest = world
        .client
        .list_groups(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((rest.groups.len(), rest.next_page_token.as_str()), (6, ""));

    let group_id = "g3".to_owned();
    let request = pb::ListMembersRequest {
        group_id,
        page_size: 9,
        page_token: String::new(),
    };
    let page = world
        .client
        .list_members(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(page.members[8].address, "2001:db8::1:18");
    let page_token = page.next_page_token;
    let request = pb::ListMembersRequest {
        page_token,
        ..request
    };
    let rest = world
        .client
        .list_members(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!((rest.members.len(), rest.next_page_token.as_str()), (1, ""));
    // A token of one list is none of another.
    let other = pb::ListMembersRequest {
        group_id: "g4".to_owned(),
        ..request
    };
    let refused = refusal(world.client.list_members(other).await);
    assert_eq!(
        refused,
        (Code::InvalidArgument, vec!["page_token".to_owned()])
    );
}

#[tokio::test]
async fn what_is_not_there_or_makes_no_sense_is_refused_by_field() {
    let mut world = ten().await;
    let client = &mut world.client;
    let id = |id: &str| id.to_owned();
    let refused = [
        refusal(client.get_nic(pb::GetNicRequest { id: id("none") }).await),
        refusal(client.get_nic(pb::GetNicRequest { id: id("") }).await),
        refusal(
            client
                .get_group(pb::GetGroupRequest { id: id("none") })
                .await,
        ),
        refusal(
            client
                .get_group(pb::GetGroupRequest { id: id("a b") })
                .await,
        ),
        refusal(
            client
                .list_drops(pb::ListDropsRequest { nic_id: id("none") })
                .await,
        ),
        refusal(
            client
                .list_members(pb::ListMembersRequest {
                    group_id: id("none"),
                    ..Default::default()
                })
                .await,
        ),
        refusal(
            client
                .list_nics(pb::ListNicsRequest {
                    page_size: 1001,
                    page_token: id("x"),
                    states: vec![1, 0, 9],
                })
                .await,
        ),
    ];
    let wanted: [(Code, &[&str]); 7] = [
        (Code::NotFound, &["id"]),
        (Code::InvalidArgument, &["id"]),
        (Code::NotFound, &["id"]),
        (Code::InvalidArgument, &["id"]),
        (Code::NotFound, &["nic_id"]),
        (Code::NotFound, &["group_id"]),
        (
            Code::InvalidArgument,
            &["page_size", "page_token", "states[1]", "states[2]"],
        ),
    ];
    for (refused, (code, paths)) in refused.into_iter().zip(wanted) {
        assert_eq!(
            refused,
            (code, paths.iter().map(|path| (*path).to_owned()).collect())
        );
    }
}

#[tokio::test]
async fn a_nic_is_read_as_it_was_pushed() {
    let mut world = World::owned().await;
    let request = pb::GetNicRequest {
        id: "owner".to_owned(),
    };
    let nic = world
        .client
        .get_nic(request)
        .await
        .unwrap()
        .into_inner()
        .nic
        .unwrap();
    let pushed = sgagent::sgctl::document::apply("test", super::world::OWNER).unwrap();
    assert_eq!(nic.nic.unwrap(), pushed.nics[0]);
    let request = pb::GetGroupRequest { id: "g".to_owned() };
    let group = world
        .client
        .get_group(request)
        .await
        .unwrap()
        .into_inner()
        .group
        .unwrap();
    assert_eq!(group.group.unwrap(), pushed.groups[0]);
    assert_eq!((group.member_count, group.nic_count), (1, 1));
}

#[tokio::test]
async fn the_status_says_what_the_agent_is_and_counts() {
    let mut world = ten().await;
    let status = world.status().await;
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (status.healthy, status.revision, status.generation),
        (true, 1, None)
    );
    assert_eq!(status.placement, "br_netfilter");
    let counts = status.counts.unwrap();
    assert_eq!(
        (
            counts.nics_active,
            counts.nics_pending,
            counts.nics_quarantined
        ),
        (2, 8, 0)
    );
    assert_eq!((counts.groups, counts.rules, counts.members), (10, 0, 10));
    let flows = status.flow_table.unwrap();
    assert_eq!((flows.entries, flows.maximum), (3, 1_000));
    assert_eq!(status.bridges[0].name, "br0");
    assert_eq!(status.bridges[0].uplinks, ["eth0"]);
    assert_eq!(status.bridges[0].bound_ports, 2);
}

#[tokio::test]
async fn drops_are_told_by_nic_and_reason() {
    let mut world = World::owned().await;
    let all = world
        .client
        .list_drops(pb::ListDropsRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(all.nics[0].nic_id, "owner");
    assert_eq!(
        (
            all.nics[0].drops[0].reason.as_str(),
            all.nics[0].drops[0].packets
        ),
        ("spoofed-mac", 3)
    );
    assert_eq!(all.totals[0].bytes, 180);
    let request = pb::ListDropsRequest {
        nic_id: "owner".to_owned(),
    };
    assert_eq!(
        world
            .client
            .list_drops(request)
            .await
            .unwrap()
            .into_inner()
            .nics
            .len(),
        1
    );
    world.kernel.mood.send_replace(Mood::Refuse);
    let refused = world
        .client
        .list_drops(pb::ListDropsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
}

#[tokio::test]
async fn the_ruleset_comes_in_pieces_of_whole_lines() {
    let mut world = World::owned().await;
    let mut stream = world
        .client
        .get_ruleset(pb::GetRulesetRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut pieces = Vec::new();
    while let Some(piece) = stream.message().await.unwrap() {
        assert!(piece.text.len() <= 256 << 10 && piece.text.ends_with('\n'));
        pieces.push(piece.text);
    }
    assert!(pieces.len() > 3);
    assert_eq!(
        pieces.concat(),
        "# é a line of the ruleset\n".repeat(40_000)
    );
    world.kernel.mood.send_replace(Mood::Refuse);
    let refused = world
        .client
        .get_ruleset(pb::GetRulesetRequest {})
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
}
