{{/*
A server for a trial: one pod with a volume.
(dict "root" $ "component" "redis" "uid" 999 "port" 6379 "size" "8Gi" "container" "…" "sources" "…")
*/}}
{{- define "catraca.devServer" -}}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ include "catraca.name" . }}
  labels:
    {{- include "catraca.labels" . | nindent 4 }}
spec:
  replicas: 1
  serviceName: {{ include "catraca.name" . }}
  selector:
    matchLabels:
      {{- include "catraca.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "catraca.labels" . | nindent 8 }}
    spec:
      {{- include "catraca.podSecurity" . | nindent 6 }}
      containers:
        - name: {{ .component }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          {{- .container | nindent 10 }}
          ports:
            - { name: {{ .component }}, containerPort: {{ .port }} }
          {{- include "catraca.containerSecurity" . | nindent 10 }}
          volumeMounts:
            - { name: data, mountPath: /data }
            - { name: tmp, mountPath: /tmp }
            - { name: secret, mountPath: /etc/catraca, readOnly: true }
            {{- with .mounts }}
            {{- . | nindent 12 }}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {}
        - name: secret
          secret:
            secretName: {{ .secret }}
            defaultMode: 0440
            items:
              {{- range .files }}
              - { key: {{ . }}, path: {{ . }} }
              {{- end }}
        {{- with .volumes }}
        {{- . | nindent 8 }}
        {{- end }}
  volumeClaimTemplates:
    - metadata:
        name: data
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .root.Values.dev.storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests:
            storage: {{ .size }}
---
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
    - { name: {{ .component }}, port: {{ .port }}, targetPort: {{ .component }} }
{{- end -}}
