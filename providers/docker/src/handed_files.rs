//! Files that are put into containers before they start.

use bollard::query_parameters::UploadToContainerOptions;
use platform_port::TargetError;

use crate::PROVIDER;
use crate::container::for_reader;
use crate::engine::fault;
use crate::inside::{HANDED, Handed};
use crate::site::Site;

/// A file for a container: name, mode, owner, content.
pub(crate) type HandedFile = (String, u32, u32, Vec<u8>);

/// A file as it is put into a container.
struct Packed<'a> {
    name: &'a str,
    mode: u32,
    owner: u32,
    group: u32,
    content: &'a [u8],
}

impl Site {
    /// Puts what is secret where an instance or a server finds it when it starts.
    ///
    /// - `name`: the file that it looks for
    /// - `user`: who runs in the container
    pub(crate) async fn hand_over(
        &self,
        container: &str,
        name: &str,
        user: &str,
        handed: &Handed,
    ) -> Result<(), TargetError> {
        let (mode, group) = for_reader(user);
        let text = serde_json::to_vec(handed).unwrap_or_default();
        let file = Packed {
            name,
            mode,
            owner: 0,
            group,
            content: &text,
        };
        self.unpack(container, HANDED, [file]).await
    }

    /// Puts files into a folder of a container.
    pub(crate) async fn upload(
        &self,
        container: &str,
        folder: &str,
        files: &[HandedFile],
    ) -> Result<(), TargetError> {
        let packed = files.iter().map(|(name, mode, owner, content)| Packed {
            name,
            mode: *mode,
            owner: *owner,
            group: *owner,
            content,
        });
        self.unpack(container, folder, packed).await
    }

    async fn unpack<'a>(
        &self,
        container: &str,
        folder: &str,
        files: impl IntoIterator<Item = Packed<'a>>,
    ) -> Result<(), TargetError> {
        let mut tar = tar::Builder::new(Vec::new());
        let packed = files.into_iter().try_for_each(|file| {
            let mut header = tar::Header::new_gnu();
            header.set_mode(file.mode);
            header.set_uid(file.owner.into());
            header.set_gid(file.group.into());
            header.set_size(file.content.len() as u64);
            tar.append_data(&mut header, file.name, file.content)
        });
        let action = || format!("hand files to container `{container}`");
        let archive = packed
            .and_then(|()| tar.into_inner())
            .map_err(|error| TargetError::refused(PROVIDER, action(), error))?;
        let options = UploadToContainerOptions {
            path: folder.to_owned(),
            ..UploadToContainerOptions::default()
        };
        let body = bollard::body_full(archive.into());
        self.engine
            .docker
            .upload_to_container(container, Some(options), body)
            .await
            .map_err(|error| fault(action(), error))
    }
}
