//! The distribution protocol: fetching and pushing images, with authentication and mirrors.
