// The baseline: an AF_XDP forwarder on libxdp, as short as it can be without
// giving speed away. Frames go out as they came in, in the same memory.
//
//   forward IN OUT CPU RING FRAMES
//
// IN and OUT may be the same interface. The map that an XDP program redirects
// by is descriptor 3.

#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xdp/xsk.h>

#define BATCH      64
#define FRAME_SIZE 2048
#define SOCKETS_FD 3
#define BIND_TRIES 2000 // of a millisecond each
#define KICK_TRIES 256  // system calls for one batch at most

struct port {
	struct xsk_socket *socket;
	struct xsk_ring_cons rx, completion;
	struct xsk_ring_prod tx, fill;
};

static uint64_t *unused; // frames that nobody holds
static uint32_t unused_count;

static void die(const char *what, int err)
{
	fprintf(stderr, "%s: %s\n", what, strerror(err < 0 ? -err : err));
	exit(1);
}

static void open_port(struct port *p, const char *name, struct xsk_umem *umem, uint32_t ring)
{
	struct xsk_socket_config cfg = {
		.rx_size = ring,
		.tx_size = ring,
		.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
		.bind_flags = XDP_USE_NEED_WAKEUP,
	};
	int err = 0;

	// The last socket of the queue may not have gone yet.
	for (int i = 0; i < BIND_TRIES; i++) {
		err = xsk_socket__create_shared(&p->socket, name, 0, umem, &p->rx, &p->tx, &p->fill, &p->completion, &cfg);
		if (err != -EBUSY)
			break;
		usleep(1000);
	}
	if (err)
		die(name, err);
}

static void kick(struct port *out)
{
	// A call sends a limited number of frames in copy mode.
	for (int i = 0; i < KICK_TRIES && xsk_ring_prod__needs_wakeup(&out->tx); i++) {
		uint32_t left = out->tx.cached_prod - __atomic_load_n(out->tx.consumer, __ATOMIC_ACQUIRE);

		if (!left)
			return;
		if (sendto(xsk_socket__fd(out->socket), NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 &&
		    errno != EAGAIN && errno != EBUSY && errno != ENOBUFS)
			die("sendto", errno);
	}
}

static void take_back(struct port *out)
{
	uint32_t at, n = xsk_ring_cons__peek(&out->completion, BATCH, &at);

	for (uint32_t i = 0; i < n; i++)
		unused[unused_count++] = *xsk_ring_cons__comp_addr(&out->completion, at + i) & ~(uint64_t)(FRAME_SIZE - 1);
	xsk_ring_cons__release(&out->completion, n);
}

static void refill(struct port *in)
{
	uint32_t at, n = unused_count < BATCH ? unused_count : BATCH;

	if (!n || !xsk_ring_prod__reserve(&in->fill, n, &at))
		return;
	for (uint32_t i = 0; i < n; i++)
		*xsk_ring_prod__fill_addr(&in->fill, at + i) = unused[--unused_count];
	xsk_ring_prod__submit(&in->fill, n);
	if (xsk_ring_prod__needs_wakeup(&in->fill))
		recvfrom(xsk_socket__fd(in->socket), NULL, 0, MSG_DONTWAIT, NULL, NULL);
}

static void forward(struct port *in, struct port *out)
{
	uint32_t from, to, n = xsk_ring_cons__peek(&in->rx, BATCH, &from);

	if (!n)
		return;
	if (xsk_ring_prod__reserve(&out->tx, n, &to) == n) {
		for (uint32_t i = 0; i < n; i++) {
			const struct xdp_desc *d = xsk_ring_cons__rx_desc(&in->rx, from + i);
			struct xdp_desc *t = xsk_ring_prod__tx_desc(&out->tx, to + i);

			t->addr = d->addr;
			t->len = d->len;
			t->options = 0;
		}
		xsk_ring_prod__submit(&out->tx, n);
	} else {
		for (uint32_t i = 0; i < n; i++)
			unused[unused_count++] = xsk_ring_cons__rx_desc(&in->rx, from + i)->addr & ~(uint64_t)(FRAME_SIZE - 1);
	}
	xsk_ring_cons__release(&in->rx, n);
	kick(out);
}

int main(int argc, char **argv)
{
	static struct port ports[2];
	struct port *in = &ports[0], *out = &ports[0];
	struct xsk_umem *umem;
	cpu_set_t cpus;
	uint32_t ring, frames;
	void *memory;
	int err;

	if (argc != 6) {
		fprintf(stderr, "usage: forward IN OUT CPU RING FRAMES\n");
		return 2;
	}
	ring = atoi(argv[4]);
	frames = atoi(argv[5]);
	CPU_ZERO(&cpus);
	CPU_SET(atoi(argv[3]), &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		die("sched_setaffinity", errno);

	memory = mmap(NULL, (size_t)frames * FRAME_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (memory == MAP_FAILED)
		die("mmap", errno);
	unused = calloc(frames, sizeof(*unused));
	if (!unused)
		die("calloc", ENOMEM);
	while (unused_count < frames) {
		unused[unused_count] = (uint64_t)unused_count * FRAME_SIZE;
		unused_count++;
	}

	struct xsk_umem_config cfg = {.fill_size = ring, .comp_size = ring, .frame_size = FRAME_SIZE};
	err = xsk_umem__create(&umem, memory, (uint64_t)frames * FRAME_SIZE, &in->fill, &in->completion, &cfg);
	if (err)
		die("xsk_umem__create", err);
	open_port(in, argv[1], umem, ring);
	if (strcmp(argv[1], argv[2])) {
		out = &ports[1];
		open_port(out, argv[2], umem, ring);
	}
	refill(in);
	err = xsk_socket__update_xskmap(in->socket, SOCKETS_FD);
	if (err)
		die("xsk_socket__update_xskmap", err);
	if (write(STDOUT_FILENO, "ready\n", 6) != 6)
		die("write", errno);
	for (;;) {
		forward(in, out);
		take_back(out);
		refill(in);
	}
}
