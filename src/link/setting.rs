//! Reads and writes a [`Setting`].
//!
//! Interfaces are named in the request, not looked up before it, so that a rename between the
//! two cannot direct a write elsewhere. A kernel passes over an attribute that it does not know
//! and acknowledges the rest, so every write is read back.

use std::{io, time::Duration};

use futures::TryStreamExt as _;

use netlink_packet_route::{
    AddressFamily,
    link::{
        BridgeBooleanOptionFlags, InfoBridge, InfoBridgePort, InfoData, InfoPortData, InfoPortKind,
        LinkAttribute, LinkExtentMask, LinkInfo, LinkMessage,
    },
};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder};

use super::{LinkError, Setting};
use crate::model::IfName;

/// include/uapi/asm-generic/errno-base.h
const ENODEV: i32 = 19;

/// The kernel answers at once. netlink-proto drops an answer that it cannot parse and waits on.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn get(setting: &Setting) -> Result<Option<u64>, LinkError> {
    let failed = |source| LinkError::Get {
        setting: setting.clone(),
        source,
    };
    match setting {
        Setting::NoLinkLocalLearn(name) => {
            let options = bridge(setting, name).await?;
            Ok(options.iter().find_map(no_link_local_learn))
        }
        Setting::NfCallIp6tables(name) => {
            let options = bridge(setting, name).await?;
            Ok(options.iter().find_map(nf_call_ip6tables))
        }
        Setting::MulticastMaxGroups(name) => {
            let options = port(setting, name).await?;
            Ok(options.iter().find_map(multicast_max_groups))
        }
        Setting::Frag6Timeout
        | Setting::Frag6HighThresh
        | Setting::AllNfCallIp6tables
        | Setting::FilterVlanTagged => match tokio::fs::read_to_string(sysctl(setting)).await {
            Ok(text) => text.trim().parse().map(Some).map_err(|error| {
                failed(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{text:?}: {error}"),
                ))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        },
    }
}

pub(super) async fn set(setting: &Setting, value: u64) -> Result<(), LinkError> {
    match get(setting).await? {
        None => {
            return Err(LinkError::Unsupported {
                setting: setting.clone(),
            });
        }
        Some(found) if found == value => return Ok(()),
        Some(_) => {}
    }
    write(setting, value).await.map_err(|source| {
        if is_no_device(&source) {
            LinkError::NoInterface {
                setting: setting.clone(),
            }
        } else {
            LinkError::Set {
                setting: setting.clone(),
                value,
                source,
            }
        }
    })?;
    match get(setting).await? {
        None => Err(LinkError::Unsupported {
            setting: setting.clone(),
        }),
        Some(found) if found == value => Ok(()),
        Some(found) => Err(LinkError::NotTaken {
            setting: setting.clone(),
            value,
            found,
        }),
    }
}

async fn write(setting: &Setting, value: u64) -> io::Result<()> {
    let message = match setting {
        // Not `LinkBridge::new`, which brings the bridge up.
        Setting::NoLinkLocalLearn(name) => LinkMessageBuilder::<LinkBridge>::new(name.as_str())
            .no_linklocal_learn(flag(value)?)
            .build(),
        Setting::NfCallIp6tables(name) => LinkMessageBuilder::<LinkBridge>::new(name.as_str())
            .nf_call_ip6tables(flag(value)?)
            .build(),
        Setting::MulticastMaxGroups(name) => {
            let value = u32::try_from(value).map_err(|_| out_of_range("32 bits"))?;
            LinkMessageBuilder::<LinkBridgePort>::default()
                .name(name.as_str())
                .set_port_kind(InfoPortKind::Bridge)
                .append_info_data(InfoBridgePort::MulticastMaxGroups(value))
                .build()
        }
        Setting::Frag6Timeout
        | Setting::Frag6HighThresh
        | Setting::AllNfCallIp6tables
        | Setting::FilterVlanTagged => {
            return tokio::fs::write(sysctl(setting), value.to_string()).await;
        }
    };
    // RTM_NEWLINK and not RTM_SETLINK, which leaves IFLA_LINKINFO alone (`rtnl_setlink`,
    // net/core/rtnetlink.c); without NLM_F_CREATE.
    request(async |handle| handle.link().change(message).execute().await).await
}

fn flag(value: u64) -> io::Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(out_of_range("0 and 1")),
    }
}

fn out_of_range(range: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("the value must be within {range}"),
    )
}

fn sysctl(setting: &Setting) -> String {
    let dotted = setting.to_string();
    format!("/proc/sys/{}", dotted.replace('.', "/"))
}

fn no_link_local_learn(option: &InfoBridge) -> Option<u64> {
    // The mask names the options that the kernel knows (`br_boolopt_multi_get`, net/bridge/br.c).
    if let InfoBridge::MultiBoolOpt(options) = option
        && options
            .mask
            .contains(BridgeBooleanOptionFlags::NoLinkLocalLearn)
    {
        let on = options
            .value
            .contains(BridgeBooleanOptionFlags::NoLinkLocalLearn);
        return Some(u64::from(on));
    }
    None
}

fn nf_call_ip6tables(option: &InfoBridge) -> Option<u64> {
    if let InfoBridge::NfCallIp6Tables(on) = option {
        return Some(u64::from(*on));
    }
    None
}

fn multicast_max_groups(option: &InfoBridgePort) -> Option<u64> {
    if let InfoBridgePort::MulticastMaxGroups(groups) = option {
        return Some(u64::from(*groups));
    }
    None
}

/// The options of a bridge.
async fn bridge(setting: &Setting, name: &IfName) -> Result<Vec<InfoBridge>, LinkError> {
    for info in link_info(setting, name).await? {
        if let LinkInfo::Data(InfoData::Bridge(options)) = info {
            return Ok(options);
        }
    }
    Err(LinkError::WrongKind {
        setting: setting.clone(),
        expected: "a bridge",
    })
}

/// The options of a bridge's port.
async fn port(setting: &Setting, name: &IfName) -> Result<Vec<InfoBridgePort>, LinkError> {
    for info in link_info(setting, name).await? {
        if let LinkInfo::PortData(InfoPortData::BridgePort(options)) = info {
            return Ok(options);
        }
    }
    Err(LinkError::WrongKind {
        setting: setting.clone(),
        expected: "a port of a bridge",
    })
}

async fn link_info(setting: &Setting, name: &IfName) -> Result<Vec<LinkInfo>, LinkError> {
    let mut links: Vec<LinkMessage> = request(async |handle| {
        let get = handle.link().get().match_name(name.as_str());
        get.set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats])
            .execute()
            .try_collect()
            .await
    })
    .await
    .map_err(|source| {
        if is_no_device(&source) {
            LinkError::NoInterface {
                setting: setting.clone(),
            }
        } else {
            LinkError::Get {
                setting: setting.clone(),
                source,
            }
        }
    })?;
    let attributes = links.pop().map(|link| link.attributes).unwrap_or_default();
    let info = attributes.into_iter().find_map(|attribute| {
        if let LinkAttribute::LinkInfo(info) = attribute {
            Some(info)
        } else {
            None
        }
    });
    Ok(info.unwrap_or_default())
}

pub(super) fn is_no_device(error: &io::Error) -> bool {
    error.raw_os_error() == Some(ENODEV)
}

/// Asks over a connection of its own: settings are seldom written, and netlink-proto's
/// connections do not outlive an error of their socket.
pub(super) async fn request<T>(
    ask: impl AsyncFnOnce(Handle) -> Result<T, rtnetlink::Error>,
) -> io::Result<T> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let answer = async {
        tokio::select! {
            answer = ask(handle) => answer.map_err(|error| {
                if let rtnetlink::Error::NetlinkError(error) = error {
                    error.to_io()
                } else {
                    io::Error::other(error)
                }
            }),
            () = connection => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    };
    tokio::time::timeout(PATIENCE, answer).await?
}
