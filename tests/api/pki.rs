//! An authority, the agent's certificate and those of clients, in files as they are deployed.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber, date_time_ymd,
};
use sgagent::{access::TlsFiles, sgctl::client::Credentials};

/// Who may push, in every world.
pub(crate) const PUSHER: &str = "mgmt.example";
/// Who may inspect.
pub(crate) const INSPECTOR: &str = "spiffe://cloud/inspector";

const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);

pub(crate) struct Pki {
    pub(crate) files: TlsFiles,
    authority: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
    last: u64,
}

impl Pki {
    pub(crate) fn in_directory(directory: &Path) -> Self {
        let file = |name: &str| directory.join(name);
        let authority = authority();
        let files = TlsFiles {
            certificate: file("agent.pem"),
            key: file("agent.key"),
            client_ca: file("ca.pem"),
            client_crls: vec![file("crl.pem")],
        };
        std::fs::write(&files.client_ca, authority.pem()).unwrap();
        let mut pki = Self {
            files,
            authority,
            directory: directory.to_owned(),
            last: 1,
        };
        pki.revoke(&[]);
        pki.renew();
        pki
    }

    /// A new certificate for the agent.
    pub(crate) fn renew(&mut self) {
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        let (pem, key, _) = self.sign(&["localhost", "::1"], server, CENTURY);
        std::fs::write(&self.files.key, key).unwrap();
        std::fs::write(&self.files.certificate, pem).unwrap();
    }

    /// A client of this name, and its certificate's number.
    pub(crate) fn client(&mut self, name: &str) -> (Credentials, u64) {
        self.client_for(name, CENTURY)
    }

    /// The same, whose certificate runs out after this time.
    pub(crate) fn client_for(&mut self, name: &str, time: Duration) -> (Credentials, u64) {
        let (pem, key, number) = self.sign(&[name], ExtendedKeyUsagePurpose::ClientAuth, time);
        let file = |end: &str| self.directory.join(format!("{number}.{end}"));
        let credentials = Credentials {
            cacert: self.files.client_ca.clone(),
            cert: file("pem"),
            key: file("key"),
        };
        std::fs::write(&credentials.cert, pem).unwrap();
        std::fs::write(&credentials.key, key).unwrap();
        (credentials, number)
    }

    fn sign(
        &mut self,
        names: &[&str],
        purpose: ExtendedKeyUsagePurpose,
        time: Duration,
    ) -> (String, String, u64) {
        self.last += 1;
        let mut params = CertificateParams::default();
        let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + time;
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(end.as_secs());
        params.subject_alt_names = names.iter().map(|name| san(name)).collect();
        params.extended_key_usages = vec![purpose];
        params.serial_number = Some(SerialNumber::from(self.last));
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.authority).unwrap();
        (signed.pem(), key.serialize_pem(), self.last)
    }

    /// The list of what is revoked: certificates by their numbers.
    pub(crate) fn revoke(&mut self, numbers: &[u64]) {
        let revoked = |number: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*number),
            revocation_time: date_time_ymd(2020, 1, 2),
            reason_code: None,
            invalidity_date: None,
        };
        self.last += 1;
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(self.last),
            issuing_distribution_point: None,
            revoked_certs: numbers.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.authority).unwrap();
        std::fs::write(&self.files.client_crls[0], list.pem().unwrap()).unwrap();
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // BoringSSL takes what has its issuer's name for signed by itself.
    params
        .distinguished_name
        .push(DnType::CommonName, "test authority");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn san(name: &str) -> SanType {
    match name.parse() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) if name.contains("://") => SanType::URI(name.try_into().unwrap()),
        Err(_) => SanType::DnsName(name.try_into().unwrap()),
    }
}
