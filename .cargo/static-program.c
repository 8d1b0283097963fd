/* Goes into a static `platform`; where this cannot be compiled and linked there is none. */
#include <features.h>
#include <nss.h>

/* Before 2.34 names could not be looked up without a library beside the program. */
#if !__GLIBC_PREREQ(2, 34)
#error
#endif

/* What /etc/nsswitch.conf may name beyond these are libraries, which bring the C library of the machine into a program that has its own already: where
   the two are of different versions it ends by a signal. */
__attribute__((constructor)) static void look_up_in_files_and_at_name_servers(void) {
  __nss_configure_lookup("hosts", "files dns");
  __nss_configure_lookup("passwd", "files");
  __nss_configure_lookup("group", "files");
  __nss_configure_lookup("initgroups", "files");
}
