import Foundation

/// A root tree out of Debian's i386 packages: the closure of their dependencies, unpacked without root and without
/// running their scripts.
public enum DebianPackages {
  /// Wanted only by maintainer scripts, which do not run; perl-base comes with the package perl.
  static let excluded = ["debconf", "adduser", "passwd", "dpkg", "perl-base", "libpam-modules", "libpam-modules-bin"]

  /// The shell commands that fetch `packages` into `cache` and unpack them into `cache/root-NAMES`; the last line printed is
  /// that folder. An apt that believes it runs on an empty i386 machine resolves the closure.
  public static func script(packages: [String], cache: String) -> String {
    let names = packages.joined(separator: " ")
    let root = "\(cache)/root-\(packages.joined(separator: "+"))"
    return """
      \(preparation(cache))
      rm -rf '\(root)'; mkdir -p '\(root)'
      for d in bin sbin lib; do mkdir -p '\(root)'/usr/$d; ln -s usr/$d '\(root)'/$d; done
      apt -s install usr-is-merged \(names) | sed -n 's/^Inst \\([^ ]*\\) (\\([^ ]*\\) .*\\[\\(.*\\)\\]).*/\\1_\\2_\\3.deb/p' | sed 's/:/%3a/' > '\(root).closure'
      apt -y --download-only install usr-is-merged \(names) > '\(cache)/apt.log' 2>&1
      wanted=' \(names) '
      ! grep -q '^perl_' '\(root).closure' || wanted="$wanted perl-base "
      while read -r deb; do
        case "$wanted" in *" ${deb%%_*} "*) ;; *) case " \(excluded.joined(separator: " ")) " in *" ${deb%%_*} "*) continue;; esac;; esac
        dpkg-deb --fsys-tarfile "\(cache)/archives/$deb" | tar -x --no-same-owner -C '\(root)' --keep-directory-symlink
      done < '\(root).closure'
      mkdir -p '\(root)'/dev '\(root)'/proc '\(root)'/sys '\(root)'/tmp '\(root)'/run '\(root)'/root '\(root)'/etc
      [ -e '\(root)/bin/sh' ] || for s in dash bash-static busybox; do [ -e '\(root)/bin/'$s ] && ln -s $s '\(root)/bin/sh' && break; done
      [ -e '\(root)/etc/passwd' ] || echo 'root:x:0:0:root:/root:/bin/sh' > '\(root)/etc/passwd'
      [ -e '\(root)/etc/group' ] || echo 'root:x:0:' > '\(root)/etc/group'
      echo '\(root)'
      """
  }

  /// The shell commands that fetch Linux alone, which depends on tools that make an initramfs; the last line printed is its path.
  public static func kernelScript(cache: String) -> String {
    """
    \(preparation(cache))
    if ! ls '\(cache)'/linux/overlay.ko '\(cache)'/linux/evdev.ko '\(cache)'/linux/boot/vmlinuz-* > /dev/null 2>&1; then
      name=$(apt -s install linux-image-686-pae | sed -n 's/^Inst \\(linux-image-[0-9][0-9]*[.][^ ]*\\) .*/\\1/p')
      (cd '\(cache)' && apt download "$name" && dpkg-deb --fsys-tarfile "$name"_*.deb | tar -x -C '\(cache)' --one-top-level=linux ./boot \
        --wildcards '*/overlay.ko' '*/evdev.ko')
      find '\(cache)/linux/lib' -name '*.ko' -exec ln -f '{}' '\(cache)/linux' ';'
    fi
    ls '\(cache)'/linux/boot/vmlinuz-*
    """
  }

  /// An apt that believes it runs on an empty i386 machine.
  private static func preparation(_ cache: String) -> String {
    """
    set -e
    mkdir -p '\(cache)/lists/partial' '\(cache)/archives/partial'
    : > '\(cache)/status'
    apt() { apt-get -qq -o APT::Architecture=i386 -o APT::Architectures::=i386 -o Dir::State::status='\(cache)/status' \
      -o Dir::State::lists='\(cache)/lists' -o Dir::Cache='\(cache)' -o Debug::NoLocking=1 -o APT::Sandbox::User=root \
      --no-install-recommends "$@"; }
    [ -n "$(ls '\(cache)/lists' | grep bookworm_main_binary-i386_Packages)" ] || apt update 2>/dev/null \
      || true  # one list that a mirror is just changing must not hide the others
    """
  }
}
