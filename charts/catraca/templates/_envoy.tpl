{{/* files/envoy.yaml with its words replaced, as local/servers/envoy.py does it for the embedded stack. */}}
{{- define "catraca.envoy" -}}
{{- $v := .Values -}}
{{- $sockets := "type.googleapis.com/envoy.extensions.transport_sockets" -}}
{{- $plain := dict "name" "plain" "typed_config" (dict "@type" (printf "%s.raw_buffer.v3.RawBuffer" $sockets)) | toJson -}}
{{- $origins := list -}}
{{- range $v.edge.allowedOrigins }}{{ $origins = append $origins (dict "exact" .) }}{{ end -}}
{{- $issuer := include "catraca.jwksUrl" . | urlParse -}}
{{- $issuerPort := ternary "443" "80" (eq $issuer.scheme "https") -}}
{{- $issuerAddress := ternary $issuer.host (printf "%s:%s" $issuer.host $issuerPort) (contains ":" $issuer.host) -}}
{{- $words := dict
  "LISTEN_ADDRESS" "0.0.0.0"
  "LISTEN_PORT" "8080"
  "ADMIN_ADDRESS" "127.0.0.1"
  "ADMIN_PORT" "9901"
  "TRUSTED_HOPS" ($v.edge.trustedHops | int64 | toString)
  "ALLOWED_ORIGINS" (toJson $origins)
  "REQUESTS_PER_S" ($v.edge.requestsPerSecond | int64 | toString)
  "CLIENT_REQUESTS_PER_S" ($v.edge.clientRequestsPerSecond | int64 | toString)
  "BFF_REQUESTS_PER_S" ($v.edge.bffRequestsPerSecond | int64 | toString)
  "OIDC_ISSUER" (include "catraca.issuerUrl" .)
  "AUDIENCE" $v.identity.audience
  "JWKS_URL" (include "catraca.jwksUrl" .)
  "DISCOVERY" "STRICT_DNS"
  "ISSUER_ENDPOINTS" (include "catraca.endpoints" $issuerAddress)
  "ISSUER_TRANSPORT" $plain
  "LISTEN_TRANSPORT" $plain
  "STANDING_ENDPOINTS" (include "catraca.endpoints" (printf "%s:8081" (include "catraca.host" (dict "root" . "component" "queue")))) -}}
{{- range $service := list "queue" "inventory" "checkout" "notifier" -}}
  {{- $host := include "catraca.host" (dict "root" $ "component" $service) -}}
  {{- $_ := set $words (printf "%s_ENDPOINTS" (upper $service)) (include "catraca.endpoints" (printf "%s:50051" $host)) -}}
  {{- $_ = set $words (printf "%s_TRANSPORT" (upper $service)) $plain -}}
  {{- if $v.tls.enabled -}}
    {{- $_ = set $words (printf "%s_TRANSPORT" (upper $service)) (include "catraca.callingTransport" $host) -}}
  {{- end -}}
{{- end -}}
{{- if $v.edge.tls.existingSecret -}}
  {{- $common := dict "tls_params" (dict "tls_minimum_protocol_version" "TLSv1_2") "alpn_protocols" (list "h2" "http/1.1") "tls_certificate_sds_secret_configs" (list (include "catraca.watched" "public" | fromJson)) -}}
  {{- $_ := set $words "LISTEN_TRANSPORT" (dict "name" "tls" "typed_config" (dict "@type" (printf "%s.tls.v3.DownstreamTlsContext" $sockets) "common_tls_context" $common) | toJson) -}}
{{- end -}}
{{- if eq $issuer.scheme "https" -}}
  {{- $ca := ternary "/etc/tls/issuer/ca.crt" "/etc/ssl/certs/ca-certificates.crt" (ne $v.identity.caSecret "") -}}
  {{- $name := splitList ":" $issuer.host | first -}}
  {{- $validation := dict "trusted_ca" (dict "filename" $ca) "match_typed_subject_alt_names" (list (dict "san_type" "DNS" "matcher" (dict "exact" $name))) -}}
  {{- $_ := set $words "ISSUER_TRANSPORT" (dict "name" "tls" "typed_config" (dict "@type" (printf "%s.tls.v3.UpstreamTlsContext" $sockets) "sni" $name "common_tls_context" (dict "validation_context" $validation)) | toJson) -}}
{{- end -}}
{{- $text := .Files.Get "files/envoy.yaml" -}}
{{- range $word, $value := $words -}}
  {{- $text = replace (printf "${%s}" $word) $value $text -}}
{{- end -}}
{{ $text }}
{{- end -}}

{{/* host:port as the JSON list of endpoints that the template wants. The name is resolved to an address per replica. */}}
{{- define "catraca.endpoints" -}}
{{- $parts := splitList ":" . -}}
{{- list (dict "endpoint" (dict "address" (dict "socket_address" (dict "address" (first $parts) "port_value" (last $parts | int))))) | toJson -}}
{{- end -}}

{{/* TLS to a service whose certificate bears this name. */}}
{{- define "catraca.callingTransport" -}}
{{- $sockets := "type.googleapis.com/envoy.extensions.transport_sockets" -}}
{{- $names := list (dict "san_type" "DNS" "matcher" (dict "exact" .)) -}}
{{- $common := dict
  "tls_params" (dict "tls_minimum_protocol_version" "TLSv1_2")
  "alpn_protocols" (list "h2")
  "tls_certificate_sds_secret_configs" (list (include "catraca.watched" "identity" | fromJson))
  "combined_validation_context" (dict
    "default_validation_context" (dict "match_typed_subject_alt_names" $names)
    "validation_context_sds_secret_config" (include "catraca.watched" "authorities" | fromJson)) -}}
{{- dict "name" "tls" "typed_config" (dict "@type" (printf "%s.tls.v3.UpstreamTlsContext" $sockets) "common_tls_context" $common) | toJson -}}
{{- end -}}

{{- define "catraca.watched" -}}
{{- dict "name" . "sds_config" (dict "path_config_source" (dict "path" (printf "/etc/envoy/%s.json" .))) | toJson -}}
{{- end -}}

{{/* Files that tell Envoy which certificates to read, and to read them again when their folder changes; by name. */}}
{{- define "catraca.envoySecrets" -}}
{{- $type := "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret" -}}
{{- $files := dict -}}
{{- $folders := dict -}}
{{- if .Values.edge.tls.existingSecret }}{{ $_ := set $folders "public" "/etc/tls/public" }}{{ end -}}
{{- if .Values.tls.enabled }}{{ $_ := set $folders "identity" "/etc/tls/inner" }}{{ end -}}
{{- range $name, $folder := $folders -}}
  {{- $certificate := dict
    "certificate_chain" (dict "filename" (printf "%s/tls.crt" $folder))
    "private_key" (dict "filename" (printf "%s/tls.key" $folder))
    "watched_directory" (dict "path" $folder) -}}
  {{- $_ := set $files (printf "%s.json" $name) (dict "resources" (list (dict "@type" $type "name" $name "tls_certificate" $certificate))) -}}
{{- end -}}
{{- if .Values.tls.enabled -}}
  {{- $validation := dict "trusted_ca" (dict "filename" "/etc/tls/inner/ca.crt") "watched_directory" (dict "path" "/etc/tls/inner") -}}
  {{- $_ := set $files "authorities.json" (dict "resources" (list (dict "@type" $type "name" "authorities" "validation_context" $validation))) -}}
{{- end -}}
{{- toJson $files -}}
{{- end -}}
