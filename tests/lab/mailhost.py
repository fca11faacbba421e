"""How the lab's mail servers are set up, as their operator would: a shell script run once in the nodes' root.

Queue and mailboxes lie on the shared LUN under /srv/mail. What the LUN holds at the start is prepared in /srv/lun, so
that Postfix and Dovecot find their folders whichever of them starts first.
"""

from pathlib import Path

LUN_CONTENT = Path("srv/lun")  # in the layer

SCRIPT = r"""
cat >/etc/postfix/main.cf <<'END'
compatibility_level = 3.6
myhostname = mail.lab
mydestination = mail.lab
mynetworks = 127.0.0.0/8 10.88.0.0/16 [fd88::]/32
queue_directory = /srv/mail/queue
data_directory = /var/lib/postfix
virtual_mailbox_domains = example.test
virtual_transport = lmtp:unix:private/dovecot-lmtp
alias_maps =
alias_database =
smtpd_tls_security_level = none
inet_interfaces = all
END
# Debian's unit copies the system's libraries into the queue at every start while any service is chrooted. On a queue
# that moves between machines those copies would be the other machine's.
postconf -F '*/*/chroot = n'

case $(dovecot --version) in
2.3.*) cat >/etc/dovecot/dovecot.conf <<'END' ;;
protocols = imap lmtp
ssl = no
disable_plaintext_auth = no
mail_location = maildir:/srv/mail/box/%u
mail_fsync = always
# One name for all nodes: a lock file left in a mailbox by a node that died is then seen to belong to a process that is
# no more, and taken over at once. Another machine's lock would be waited for, two minutes long.
import_environment = TZ CORE_OUTOFMEM CORE_ERROR LISTEN_PID LISTEN_FDS NOTIFY_SOCKET DOVECOT_HOSTNAME=mail
first_valid_uid = 8
passdb {
  driver = static
  args = nopassword=y
}
userdb {
  driver = static
  args = uid=mail gid=mail home=/srv/mail/box/%u
}
service imap-login {
  service_count = 0
  process_min_avail = 1
}
END
*) cat >/etc/dovecot/dovecot.conf <<'END' ;;
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
protocols = imap lmtp
ssl = no
auth_allow_cleartext = yes
mail_driver = maildir
mail_path = /srv/mail/box/%{user}
mail_fsync = always
import_environment {
  DOVECOT_HOSTNAME = mail
}
first_valid_uid = 8
passdb static {
  fields {
    nopassword = yes
  }
}
userdb static {
  fields {
    uid = mail
    gid = mail
    home = /srv/mail/box/%{user}
  }
}
service imap-login {
  restart_request_count = unlimited
  process_min_avail = 1
}
END
esac
cat >>/etc/dovecot/dovecot.conf <<'END'
service lmtp {
  unix_listener /srv/mail/queue/private/dovecot-lmtp {
    mode = 0600
    user = postfix
    group = postfix
  }
}
END

# The cluster manager starts these, not the boot.
for unit in postfix.service dovecot.service logd.service e2scrub_reap.service; do
    rm -f /etc/systemd/system/multi-user.target.wants/$unit
done
rm -f /etc/systemd/system/timers.target.wants/*
for unit in console-getty getty@tty1 systemd-logind systemd-networkd-wait-online e2scrub_reap systemd-firstboot; do
    ln -sf /dev/null /etc/systemd/system/$unit.service
done

mkdir -p /srv/mail/queue /srv/mail/box
postfix check
chown mail:mail /srv/mail/box
rm -rf /srv/lun
mv /srv/mail /srv/lun
mkdir /srv/mail

rm -f /etc/machine-id /etc/hostname
mkdir -p /var/log/journal
"""
