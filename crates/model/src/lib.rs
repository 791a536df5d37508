//! The data of a profiling run: profiles, measurements, manifests, and how they are kept on disk.
