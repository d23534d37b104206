/* Lets the daemon of Xen's store serve its socket on a host without Xen: to be preloaded. The libraries
 * that lead to the hypervisor are answered for (event channels, grant tables, domain information), and
 * what it reads in /proc/xen is read at $SHIM_KVA and $SHIM_PORT. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

/* What handles point at. */
static char handles[192];

/* An event channel on which nothing ever happens. */
static int silent(void)
{
	static int fd = -1;
	if (fd < 0)
		fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return fd;
}

void *xenevtchn_open(void *logger, unsigned flags) { return handles; }
void *xenevtchn_fdopen(void *logger, int fd, unsigned flags) { return handles; }
int xenevtchn_close(void *handle) { return 0; }
int xenevtchn_fd(void *handle) { return silent(); }
int xenevtchn_bind_virq(void *handle, unsigned virq) { return 10; }
int xenevtchn_bind_interdomain(void *handle, uint32_t domain, uint32_t port) { return 11; }
int xenevtchn_unbind(void *handle, uint32_t port) { return 0; }
int xenevtchn_notify(void *handle, uint32_t port) { return 0; }
int xenevtchn_pending(void *handle) { return -1; }
int xenevtchn_unmask(void *handle, uint32_t port) { return 0; }

void *xengnttab_open(void *logger, unsigned flags) { return handles + 64; }
int xengnttab_close(void *handle) { return 0; }
int xengnttab_set_max_grants(void *handle, uint32_t count) { return 0; }
void *xengnttab_map_grant_ref(void *handle, uint32_t domain, uint32_t ref, int protection) { return calloc(1, 4096); }
int xengnttab_unmap(void *handle, void *address, uint32_t count) { return 0; }

void *xc_interface_open(void *logger, void *dom0, unsigned flags) { return handles + 128; }
int xc_interface_close(void *handle) { return 0; }
int xc_domain_getinfolist(void *handle, uint32_t first, unsigned max, void *info) { return 0; }

/* Every domain exists and runs: its number is the first field. */
int xc_domain_getinfo(void *handle, uint32_t first, unsigned max, void *info)
{
	memset(info, 0, 12);
	memcpy(info, &first, sizeof first);
	return 1;
}

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit) { return 0; }
int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit) { return 0; }

static const char *redirected(const char *path)
{
	const char *to = NULL;
	if (!strcmp(path, "/proc/xen/xsd_kva"))
		to = getenv("SHIM_KVA");
	else if (!strcmp(path, "/proc/xen/xsd_port"))
		to = getenv("SHIM_PORT");
	return to ? to : path;
}

#define OPEN(name)                                                             \
	int name(const char *path, int flags, ...)                             \
	{                                                                      \
		static int (*next)(const char *, int, ...);                    \
		va_list arguments;                                             \
		va_start(arguments, flags);                                    \
		int mode = va_arg(arguments, int);                             \
		va_end(arguments);                                             \
		if (!next)                                                     \
			next = dlsym(RTLD_NEXT, #name);                        \
		return next(redirected(path), flags, mode);                    \
	}
OPEN(open)
OPEN(open64)
