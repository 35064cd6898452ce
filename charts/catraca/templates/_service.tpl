{{/*
One of the four services whole: ServiceAccount, Deployment, Service, autoscaler, disruption budget.
(dict "root" $ "component" "queue" "stores" (list "redis" "nats") "keys" (list "buyer-hash" …) "env" "…" "ports" (dict "standing" 8081) "sources" "…")
*/}}
{{- define "catraca.service" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $of := get $v .component -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "catraca.name" . }}
  labels:
    {{- include "catraca.labels" . | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "catraca.name" . }}
  labels:
    {{- include "catraca.labels" . | nindent 4 }}
spec:
  # No replicas: they are the autoscaler's, whose floor is the operator's. An upgrade changes neither.
  minReadySeconds: 5
  strategy:
    rollingUpdate:
      maxUnavailable: 0
      maxSurge: 25%
  selector:
    matchLabels:
      {{- include "catraca.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "catraca.labels" . | nindent 8 }}
    spec:
      serviceAccountName: {{ include "catraca.name" . }}
      # Longer than all that a replica does from SIGTERM on: docs/architecture.md, "Stopping a replica".
      terminationGracePeriodSeconds: {{ add $v.shutdown.lameDuckSeconds $v.shutdown.drainSeconds $v.shutdown.slackSeconds }}
      {{- include "catraca.podSecurity" . | nindent 6 }}
      {{- include "catraca.scheduling" . | nindent 6 }}
      containers:
        - name: {{ .component }}
          {{- include "catraca.ourImage" $root | nindent 10 }}
          command: [python, -m, services.{{ .component }}]
          env:
            {{- include "catraca.serviceEnvironment" . | nindent 12 }}
          ports:
            - { name: grpc, containerPort: 50051 }
            - { name: metrics, containerPort: 9090 }
            {{- range $name, $port := .ports }}
            - { name: {{ $name }}, containerPort: {{ $port }} }
            {{- end }}
          # It listens once its stores are there and prepared; that may take a while in a new cluster.
          startupProbe:
            httpGet: { path: /healthz, port: metrics }
            periodSeconds: 2
            failureThreshold: 300
          readinessProbe:
            {{- if $v.tls.enabled }}
            # A kubelet's gRPC probe speaks no TLS; this page says the same.
            httpGet: { path: /healthz, port: metrics }
            {{- else }}
            grpc: { port: 50051 }
            {{- end }}
            periodSeconds: 2
            timeoutSeconds: 2
            failureThreshold: 2
          # Only of itself: a store that is down must not restart those who wait for it.
          livenessProbe:
            httpGet: { path: /healthz, port: metrics }
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          resources:
            {{- toYaml $of.resources | nindent 12 }}
          {{- include "catraca.containerSecurity" . | nindent 10 }}
          {{- include "catraca.mounts" . | nindent 10 }}
      {{- include "catraca.volumes" (include "catraca.serviceSources" .) | nindent 6 }}
---
# Headless: whoever calls by gRPC balances over the replicas itself, and watches the health of each.
apiVersion: v1
kind: Service
metadata:
  name: {{ include "catraca.name" . }}
  labels:
    {{- include "catraca.labels" . | nindent 4 }}
spec:
  clusterIP: None
  selector:
    {{- include "catraca.selector" . | nindent 4 }}
  ports:
    - { name: grpc, port: 50051, targetPort: grpc{{ if not $v.tls.enabled }}, appProtocol: kubernetes.io/h2c{{ end }} }
    - { name: metrics, port: 9090, targetPort: metrics }
    {{- range $name, $port := .ports }}
    - { name: {{ $name }}, port: {{ $port }}, targetPort: {{ $name }} }
    {{- end }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "catraca.name" . }}
  labels:
    {{- include "catraca.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  # One that does not serve is nothing to protect, and must not hold a node up.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "catraca.selector" . | nindent 6 }}
---
{{ include "catraca.autoscaler" . }}
{{- end -}}

{{- define "catraca.serviceEnvironment" -}}
{{- $v := .root.Values -}}
- name: CATRACA_LISTEN
  value: 0.0.0.0:50051
- name: CATRACA_METRICS_LISTEN
  value: 0.0.0.0:9090
- name: CATRACA_LOG_LEVEL
  value: {{ $v.logLevel }}
# The job `prepare` makes streams and tables; the service waits for them.
- name: CATRACA_STORES_PREPARED
  value: "true"
- name: CATRACA_OIDC_ISSUER
  value: {{ include "catraca.issuerUrl" .root }}
- name: CATRACA_JWKS_URL
  value: {{ include "catraca.jwksUrl" .root }}
- name: CATRACA_AUDIENCE
  value: {{ $v.identity.audience }}
- name: CATRACA_BUYER_HASH_KEY_FILE
  value: /etc/catraca/keys/buyer-hash.json
- name: CATRACA_SERVICE_TOKEN_FILE
  value: /etc/catraca/tokens/service
# So often the services ask for each other's addresses, and find replicas that are new.
- name: CATRACA_CONNECTION_AGE_S
  value: "60"
- name: CATRACA_LAME_DUCK_S
  value: {{ $v.shutdown.lameDuckSeconds | quote }}
- name: CATRACA_DRAIN_S
  value: {{ $v.shutdown.drainSeconds | quote }}
{{- with $v.monitoring.tracing.endpoint }}
- name: CATRACA_OTLP_ENDPOINT
  value: {{ . }}
- name: CATRACA_TRACE_RATIO
  value: {{ $v.monitoring.tracing.ratio | quote }}
{{- end }}
{{- range .stores }}
- name: CATRACA_{{ upper . }}_URL_FILE
  value: /etc/catraca/stores/{{ . }}
{{- end }}
{{- include "catraca.caEnvironment" (dict "server" "jwks" "secret" $v.identity.caSecret) }}
{{- range .stores }}
{{- include "catraca.caEnvironment" (dict "server" . "secret" (get $v .).caSecret) }}
{{- end }}
{{- include "catraca.tlsEnvironment" .root }}
{{- if $v.tls.enabled }}
- name: CATRACA_TLS_CLIENT_CERT_REQUIRED
  value: "true"
{{- end }}
{{- range .keys }}
{{- if ne . "buyer-hash" }}
- name: CATRACA_{{ upper . }}_KEY_FILE
  value: /etc/catraca/keys/{{ . }}.json
{{- end }}
{{- end }}
{{- with .env }}
{{ . }}
{{- end }}
{{- include "catraca.settings" (get $v .component).settings }}
{{- end -}}

{{/* The files of a service: its own keys and URLs, and nobody else's. */}}
{{- define "catraca.serviceSources" -}}
{{- $root := .root -}}
{{- $component := .component -}}
- secret:
    name: {{ include "catraca.secret" (dict "root" $root "what" "keys") }}
    items:
      {{- range .keys }}
      - { key: {{ . }}.json, path: keys/{{ . }}.json }
      {{- end }}
{{- range .stores }}
- secret:
    name: {{ include "catraca.secret" (dict "root" $root "what" .) }}
    items:
      - { key: {{ $component }}, path: stores/{{ . }} }
{{- end }}
{{ include "catraca.tokenSource" (dict "root" $root "token" "service") }}
{{- include "catraca.caSource" (dict "server" "jwks" "secret" $root.Values.identity.caSecret) }}
{{- range .stores }}
{{- include "catraca.caSource" (dict "server" . "secret" (get $root.Values .).caSecret) }}
{{- end }}
{{- include "catraca.tlsSource" . }}
{{- with .sources }}
{{ . }}
{{- end }}
{{- end -}}
