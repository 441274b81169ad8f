# The image of Fairlead: one static binary, and who its processes are. Made with
#   docker build --build-arg VERSION=$(git describe --tags --always) -t fairlead .
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X fairlead/cmd/fairlead/internal/node.Version=${VERSION}" -o /out/fairlead ./cmd/fairlead \
 && printf 'root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n' > /out/passwd \
 && printf 'root:x:0:\nnobody:x:65534:\n' > /out/group \
 && mkdir -p /out/empty

FROM scratch
COPY --from=build /out/passwd /out/group /etc/
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/fairlead /usr/local/bin/fairlead
# Where volumes are mounted, for runtimes that do not make the directories.
COPY --from=build /out/empty /etc/fairlead
COPY --from=build /out/empty /etc/fairlead-key
COPY --from=build /out/empty /run/fairlead
COPY --from=build /out/empty /var/lib/fairlead
COPY --from=build /out/empty /tmp
ENV PATH=/usr/local/bin
# The commands need no rights. `fairlead run` and `fairlead backend` need capabilities,
# which Kubernetes gives to root alone: their manifests say so.
USER 65534:65534
ENTRYPOINT ["/usr/local/bin/fairlead"]
CMD ["--help"]
