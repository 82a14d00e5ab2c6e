//! The signatures of tokens: the crate `jsonwebtoken` over `ring`, which TLS uses already.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{
    self as ring_signature, Ed25519KeyPair, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use signature::{Error as SignatureError, Signer, Verifier};

/// Algorithms of tokens that are accepted. None with a shared secret: whoever can check such a token can make one.
pub(crate) const ALGORITHMS: [Algorithm; 6] =
    [Algorithm::EdDSA, Algorithm::ES256, Algorithm::ES384, Algorithm::RS256, Algorithm::RS384, Algorithm::RS512];

/// What `jsonwebtoken` is told to use.
pub(crate) static PROVIDER: CryptoProvider =
    CryptoProvider { signer_factory: signer, verifier_factory: verifier, key_utils: KeyUtils::new_unimplemented() };

struct EdSigner(Ed25519KeyPair);

impl Signer<Vec<u8>> for EdSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

impl JwtSigner for EdSigner {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

/// Only tokens of our own are signed here, and those are signed with Ed25519.
fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    if *algorithm != Algorithm::EdDSA {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.as_bytes()).map_err(|_| ErrorKind::InvalidEddsaKey)?;
    Ok(Box::new(EdSigner(pair)))
}

enum PublicKey {
    /// As the algorithm wants it.
    Bytes(&'static dyn VerificationAlgorithm, Vec<u8>),
    /// An RSA key of a set of keys.
    Rsa(&'static ring_signature::RsaParameters, RsaPublicKeyComponents<Vec<u8>>),
}

struct RingVerifier(Algorithm, PublicKey);

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        let verified = match &self.1 {
            PublicKey::Bytes(algorithm, key) => UnparsedPublicKey::new(*algorithm, key).verify(message, signature),
            PublicKey::Rsa(parameters, key) => key.verify(parameters, message, signature),
        };
        verified.map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.0
    }
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let (family, rsa): (_, Option<&'static ring_signature::RsaParameters>) = match algorithm {
        Algorithm::RS256 => (AlgorithmFamily::Rsa, Some(&ring_signature::RSA_PKCS1_2048_8192_SHA256)),
        Algorithm::RS384 => (AlgorithmFamily::Rsa, Some(&ring_signature::RSA_PKCS1_2048_8192_SHA384)),
        Algorithm::RS512 => (AlgorithmFamily::Rsa, Some(&ring_signature::RSA_PKCS1_2048_8192_SHA512)),
        Algorithm::ES256 | Algorithm::ES384 => (AlgorithmFamily::Ec, None),
        Algorithm::EdDSA => (AlgorithmFamily::Ed, None),
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    };
    if key.family() != family {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let key = match (key.kind(), rsa) {
        (DecodingKeyKind::RsaModulusExponent { n, e }, Some(parameters)) => {
            PublicKey::Rsa(parameters, RsaPublicKeyComponents { n: n.clone(), e: e.clone() })
        }
        (_, Some(parameters)) => PublicKey::Bytes(parameters, key.try_get_as_bytes()?.to_vec()),
        (_, None) => {
            let algorithm: &'static dyn VerificationAlgorithm = match algorithm {
                Algorithm::ES256 => &ring_signature::ECDSA_P256_SHA256_FIXED,
                Algorithm::ES384 => &ring_signature::ECDSA_P384_SHA384_FIXED,
                _ => &ring_signature::ED25519,
            };
            PublicKey::Bytes(algorithm, key.try_get_as_bytes()?.to_vec())
        }
    };
    Ok(Box::new(RingVerifier(*algorithm, key)))
}
